"""What hosts have measured: read, summarised, drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.records import metric_files, metrics
from launcher.records.metric_curves import MetricCurves
from launcher.records.metrics import GpuSample, GpuUse, HostUse, Sample
from launcher.records.scalars import Key


def write(run: Path, host: str, *lines: dict[str, Any] | bytes) -> None:
    folder = run / "metrics"
    folder.mkdir(exist_ok=True)
    with open(folder / f"{host}.jsonl", "ab") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")


def line(time: float, **more: Any) -> dict[str, Any]:
    return {"time": time, **more}


def test_a_line_is_read() -> None:
    text = json.dumps(
        line(10.5, cpu=50, memory=[1, 2], network=[3, 4], disk=[5, 6], gpus={"1": [7, 8, None, 9]})
    )
    assert metrics.read(text.encode(), offset=0.5) == Sample(
        10.0, 50.0, (1.0, 2.0), (3.0, 4.0), (5.0, 6.0), {1: GpuSample(7.0, 8.0, None, 9.0)}
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"time": true}',
        b'{"time": -1}',
        b'{"time": 1e999}',
        b'{"time": NaN}',
        b'{"time": "1"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_hostile_line_is_left_out(text: bytes) -> None:
    assert metrics.read(text) is None


def test_hostile_values_are_left_out() -> None:
    value = line(
        1.0,
        cpu=1e9,
        memory=[1],
        network=[1, "2"],
        disk="5",
        gpus={"0": [1, 2], "-1": [1, 2, 3, 4], "²": [1, 2, 3, 4], "2": ["x", -5, 1e300, True]},
    )
    assert metrics.read(json.dumps(value).encode()) == Sample(1.0, 100.0, gpus={2: GpuSample()})


def test_use_is_weighted_with_time(tmp_path: Path) -> None:
    """Looks become rarer; a host that was silent for an hour did not do the same all the time."""
    write(
        tmp_path,
        "gpu1",
        line(100, cpu=0, memory=[5, 9], gpus={"0": [100, 70, 360, 1], "1": [0, 1, None, 1]}),
        line(109, cpu=100, memory=[7, 9], gpus={"0": [0, 90, 360, 1], "1": [4, 2, None, 1]}),
        b"garbage",
    )
    write(tmp_path, "silent", line(0), line(7200, cpu=50))
    use = metric_files.uses(tmp_path)
    assert use["gpu1"] == HostUse(
        10.0,
        90.0,
        7.0,
        9.0,
        {"0": GpuUse(10.0, 90.0, 1.0, 0.9), "1": GpuUse(3.6, 2.0, None, 1.0)},
    )
    assert use["silent"].seconds == 601.0


def test_a_run_without_metrics_has_no_use(tmp_path: Path) -> None:
    write(tmp_path, "lab1")
    (tmp_path / "metrics" / "pipe.jsonl").mkdir()
    assert metric_files.uses(tmp_path) == {}


def test_curves_go_on_where_they_were(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("")
    curves = MetricCurves(tmp_path)
    assert curves.look()
    write(tmp_path, "gpu1", line(1, cpu=5, gpus={"0": [50, 1, 2, 3]}))
    with open(tmp_path / "metrics" / "gpu1.jsonl", "ab") as file:
        file.write(b'{"time": 6, ')
    assert curves.look()
    with open(tmp_path / "metrics" / "gpu1.jsonl", "ab") as file:
        file.write(b'"cpu": 9}\n')
    write(tmp_path, "gpu2", line(7, cpu=1))
    assert curves.look()
    assert curves.series[Key("Processors, %", "gpu1")].points == [(0, 1.0, 5.0), (1, 6.0, 9.0)]
    assert curves.series[Key("GPU use, %", "gpu1 GPU 0")].last == (0, 1.0, 50.0)
    assert Key("Processors, %", "gpu2") in curves.series
