"""Rates of training, read from what a script prints."""

from __future__ import annotations

import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runner.scaling import rates
from launcher.spec.model import Host, Layout, Node

LINES = {
    "epoch 3: 123.4 samples/s": [("samples", 123.4)],
    "step 10 samples/s: 99.5": [("samples", 99.5)],
    "{'train_samples_per_second': 12.25, 'train_steps_per_second': 3}": [
        ("samples", 12.25),
        ("steps", 3.0),
    ],
    "throughput [images/sec] = 1,234.5": [("images", 1234.5)],
    "512 imgs/sec, 8.0 it/s": [("images", 512.0), ("steps", 8.0)],
    "1.2k tokens per second": [("tokens", 1200.0)],
    "tokens/s=5e3": [("tokens", 5000.0)],
    " 12%|█▏   | 3/25 [00:01<00:08,  2.70it/s, loss=0.3]": [("steps", 2.7)],
    " 12%|█▏   | 3/25 [00:10<00:80,  4.00s/it]": [("steps", 0.25)],
    "0%|  | 0/25 [00:00<?, ?it/s]": [],
    "12.5 GB/s over eth0, rank 3/4, 2026-01-02": [],
    "per second nothing": [],
    "nan samples/s": [],
}


@pytest.mark.parametrize("line", LINES)
def test_usual_forms(line: str) -> None:
    found = rates.usual(line)
    assert [unit for unit, _ in found] == [unit for unit, _ in LINES[line]]
    assert [value for _, value in found] == pytest.approx([value for _, value in LINES[line]])


@given(st.text(alphabet="0123456789., kMs/itampleroch:_='\"[]per ", max_size=80))
def test_any_line_is_read_to_numbers_that_are_some(line: str) -> None:
    for unit, value in rates.usual(line):
        assert unit in rates.UNITS
        assert 0 <= value < float("inf")


@given(st.integers(0, 60), st.lists(st.integers(1, 60), max_size=6))
def test_how_bytes_are_cut_does_not_matter(shift: int, cuts: list[int]) -> None:
    """Logs come in pieces, and progress bars end lines with a carriage return."""
    text = b"x" * shift + b" 5 it/s\r   7 it/s\r\nloss 3\n11 samples/s\nunfinished 3 it/s"
    reader = rates.Reader()
    rest = text
    for cut in cuts:
        reader.feed("attempt-0/rank-2.err", rest[:cut], 1.0)
        rest = rest[cut:]
    reader.feed("attempt-0/rank-2.err", rest, 1.0)
    assert [(n.unit, n.value) for n in reader.numbers] == [
        ("steps", 5),
        ("steps", 7),
        ("samples", 11),
    ]
    assert {n.key for n in reader.numbers} == {"rank-2"}
    reader.feed("attempt-0/rank-2.err", b"\r", 2.0)  # seen before a newline ever comes
    assert reader.numbers[-1] == rates.Number(2.0, "rank-2", "steps", 3)


def test_the_end_of_a_log_ends_its_last_line() -> None:
    reader = rates.Reader()
    reader.feed("attempt-0/rank-0.out", b"9 samples/s", 1.0)
    assert not reader.numbers
    reader.finish(2.0)
    assert [number.value for number in reader.numbers] == [9]


def test_own_pattern_and_what_it_finds_that_is_no_number() -> None:
    reader = rates.Reader(rates.pattern(r"speed (\S+)"))
    reader.feed("attempt-0/rank-0.out", b"speed 5 samples/s\nspeed fast\n", 0.0)
    assert [(n.unit, n.value) for n in reader.numbers] == [(rates.WORK, 5.0)]
    assert reader.unreadable == "fast"
    assert rates.unit_of(re.compile("samples/s: ([0-9.]+)")) == "samples"
    for bad in ("no group", "(two) (groups)", "(open"):
        with pytest.raises(ValueError, match=r"group|expression"):
            rates.pattern(bad)


def layout(nodes: int, each: int = 1) -> Layout:
    return Layout("r", tuple(Node(Host(f"h{n}"), n, each, n * each) for n in range(nodes)))


def numbers(values: dict[str, list[float]], unit: str = "samples") -> list[rates.Number]:
    return [
        rates.Number(float(at), key, unit, value)
        for key, listed in values.items()
        for at, value in enumerate(listed)
    ]


def test_the_lowest_rank_that_prints_is_believed() -> None:
    found = rates.rate(
        numbers({"node-0": [9, 9], "rank-10": [1, 1], "rank-2": [7, 7]}), layout(6, 2), 0
    )
    assert found.value == 7


def test_warm_up_is_left_out() -> None:
    shown = numbers({"rank-0": [1, 1, 8, 10, 12]})
    assert rates.rate(shown, layout(1), 2).value == 10
    with pytest.raises(rates.NoRate, match="all 5 numbers came within the warm-up of 9 s"):
        rates.rate(shown, layout(1), 9)
    with pytest.raises(rates.NoRate, match="no rate, such as samples/s found"):
        rates.rate([], layout(1), 0)
    with pytest.raises(rates.NoRate, match="no tokens/s found"):
        rates.rate(shown, layout(1), 0, unit="tokens")
    with pytest.raises(rates.NoRate, match="are 0"):
        rates.rate(numbers({"rank-0": [0, 0]}), layout(1), 0)


@given(st.lists(st.floats(0.1, 1e6), min_size=4, max_size=4))
def test_per_rank_adds_up_all_ranks(each: list[float]) -> None:
    shown = numbers({f"rank-{rank}": [value] for rank, value in enumerate(each)})
    assert rates.rate(shown, layout(2, 2), 0, per_rank=True).value == pytest.approx(sum(each))
    alone = rates.rate(shown[:1], layout(2, 2), 0, per_rank=True)
    assert alone.value == pytest.approx(4 * each[0])
    assert alone.note == "1 of 4 ranks printed it"


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=50))
def test_a_rate_is_a_median(values: list[float]) -> None:
    found = rates.rate(numbers({"rank-0": values}), layout(1), 0)
    assert found.value == statistics.median(values)
    assert found.count == len(values)
    assert found.spread >= 0


def test_work_is_counted_rather_than_steps() -> None:
    shown = numbers({"rank-0": [3, 3]}, "steps") + numbers({"rank-0": [50, 50]})
    assert rates.rate(shown, layout(1), 0).unit == "samples"


def test_steps_between_the_points_of_a_scalar() -> None:
    found = rates.of_steps([(0.0, 0), (2.0, 10), (2.0, 11), (3.0, 5), (4.0, 9)], "scalars")
    assert [number.value for number in found] == [5.0, 4.0]
