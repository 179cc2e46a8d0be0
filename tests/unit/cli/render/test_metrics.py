"""How busy hosts and GPUs were, in words and tables."""

from __future__ import annotations

import click
import pytest

from launcher.cli.render.metrics import curve, gpu_lines, host_line, metrics_table
from launcher.records.metrics import GpuSample, GpuUse, HostUse, Sample

BUSY = GpuUse(84.0, 40_000, 300.0, 0.02)
IDLE = GpuUse(11.0, 70_000, 100.0, 0.63)


def host(*gpus: GpuUse, seconds: float = 600.0, cpu: float = 30.0) -> HostUse:
    named = {str(index): gpu for index, gpu in enumerate(gpus)}
    return HostUse(seconds, cpu, 2e9, 8e9, named)


def lines(use: dict[str, HostUse], width: int = 80) -> list[str]:
    return [click.unstyle(line) for line in gpu_lines(use, width)]


def test_all_is_well() -> None:
    assert lines({"gpu1": host(BUSY, BUSY), "gpu2": host(BUSY, BUSY)}) == [
        "gpus     84 % busy on average, at most 41.9 GB in use on one, 1.20 kWh"
    ]


def test_a_run_without_gpus_says_nothing_of_them() -> None:
    assert lines({"cpu1": host(), "cpu2": host(GpuUse())}) == []


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (
            {"gpu1": host(BUSY, IDLE), "gpu2": host(BUSY, IDLE)},
            "the others worked: look for ranks that wait, or got less to do",
        ),
        (
            {"gpu1": host(IDLE, cpu=97)},
            "the processors were 97 % busy: loading data may be what takes so long",
        ),
        (
            {"gpu1": host(IDLE)},
            "do ranks wait for data, a disk or each other? launcher metrics shows when",
        ),
    ],
)
def test_idle_gpus_are_named_with_a_hint(use: dict[str, HostUse], why: str) -> None:
    _, idle, hint = lines(use)
    assert idle.startswith("         idle for 63 % of the time: gpu")
    assert hint == f"         {why}"


def test_idle_gpus_of_many_hosts_are_folded() -> None:
    use = {f"gpu{number}": host(BUSY, IDLE, BUSY, IDLE) for number in range(64)}
    assert lines(use)[1] == "         idle for 63 % of the time: gpu[0-63] GPU 1,3"
    assert all(len(line) <= 80 for line in lines(use))


def test_a_short_run_is_not_blamed() -> None:
    assert len(lines({"gpu1": host(IDLE, seconds=30)})) == 1


def test_processors_and_memory_in_a_line() -> None:
    assert host_line({"a": host(cpu=20)}) == (
        "processors 20 % busy on average, memory at most 2.0 GB of 8.0 GB"
    )
    assert host_line({"a": host(cpu=20), "b": host(cpu=40)}).endswith("of 8.0 GB on b")
    assert host_line({}) == ""


def test_a_table_with_curves() -> None:
    samples = [
        Sample(n, n * 10.0, (1e9, 8e9), (1e6, 2e6), None, {0: GpuSample(100.0 - n * 10)})
        for n in range(11)
    ]
    text = metrics_table({"gpu1": samples}, {"gpu1": host(BUSY)}, plain=False)
    assert text.splitlines() == [
        "host  processors      memory GB  MB/s in, out  gpus            gpu GB  watts",
        "gpu1   30 % ▁▁▃▄▅▆▇█  2.0 of 8   1.0, 2.0       84 % ██▇▅▅▃▂▁  41.9    1800",
    ]
    assert "▁" not in metrics_table({"gpu1": samples}, {"gpu1": host(BUSY)}, plain=True)


def test_a_curve_shows_what_is_not_known() -> None:
    assert curve([0.0, 50.0, 100.0, None]) == "▁▅█ "
    assert curve([]) == ""
    assert len(curve([1.0] * 1000)) == 8
