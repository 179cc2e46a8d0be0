"""Progress bars of many ranks as one line."""

from __future__ import annotations

import asyncio
import re
from collections import deque

import pytest

from launcher.cli.render import log_lines
from launcher.cli.render.bars import folded, merged
from launcher.cli.render.progress import quiet_line
from launcher.cli.render.run_view import Screen

FAST = "epoch 1:  50%|█████     | 50/100 [00:03<00:03, 13.4it/s, loss=1.2]"
SLOW = "epoch 1:   8%|▊         | 8/100 [00:04<00:46, 2.0it/s, loss=1.31]"
NEW = "epoch 1:   0%|          | 0/100 [00:00<?, ?it/s, loss=1.31]"


def test_numbers_that_differ_become_ranges() -> None:
    assert (
        merged([FAST, SLOW]) == "epoch 1: 8-50% 8-50/100 [00:04<00:46, 2.0-13.4it/s, loss=1.2-1.31]"
    )
    assert merged([FAST, FAST]) == FAST, "one that is the same on all ranks stays as it is"
    assert merged([NEW, FAST]) == "epoch 1: 0-50% 0-50/100 [00:03<00:03, 13.4it/s, loss=1.2-1.31]"
    assert merged(["lr 1.0e-05", "lr 2.5e-04"]) == "lr 1.0e-05-2.5e-04"


def test_the_slowest_is_named_where_there_is_one() -> None:
    assert folded({}) is None
    bars = folded({7: FAST, 3: SLOW, 5: FAST})
    assert bars is not None
    assert (bars.sources, bars.slowest) == ((7, 3, 5), 3)
    alike = folded({0: FAST, 1: FAST})
    assert alike is not None
    assert (alike.text, alike.slowest) == (FAST, None)


def test_of_several_kinds_the_most_frequent_is_shown() -> None:
    bars = folded({0: "loading 3%", 1: FAST, 2: SLOW})
    assert bars is not None
    assert bars.sources == (1, 2)


def _fold(*streams: bytes) -> list[tuple[tuple[int, ...], str]]:
    shown = [log_lines.readable(stream, mark_bars=True) for stream in streams]
    queues = {i: deque(lines[:-1].split(b"\n")) for i, lines in enumerate(shown)}
    return [(line.sources, line.text.decode()) for line in log_lines.fold(queues)]


def test_bars_that_are_complete_are_folded_among_lines() -> None:
    first = b"begin\n\r 0%|  | 0/5\r 100%|##| 5/5 [3.0it/s]\ndone\n"
    second = b"begin\n\r 0%|  | 0/5\r 100%|##| 5/5 [4.0it/s]\ndone\n"
    assert _fold(first, second) == [
        ((0, 1), "begin"),
        ((0, 1), "100% 5/5 [3.0-4.0it/s]"),
        ((0, 1), "done"),
    ]
    assert _fold(first)[1] == ((0,), " 100%|##| 5/5 [3.0it/s]")


@pytest.mark.parametrize("line", [b"loss 1\r\n", b"\x1b[1mloss 1\x1b[0m\n"])
def test_a_line_of_windows_and_a_coloured_one_are_no_bars(line: bytes) -> None:
    assert _fold(line, line.replace(b"1", b"2")) != [((0, 1), "loss 1-2")]


def test_a_bar_does_no_harm() -> None:
    assert _fold(b"\r1%\r\x1b[2J 2%\n") == [((0,), "␛[2J 2%")]


@pytest.mark.parametrize(
    ("silent", "text"),
    [
        (None, "running 1 h 12  no output yet"),
        (38.0, "running 1 h 12  last output 38 s ago"),
    ],
)
def test_a_quiet_run_says_that_it_runs(silent: float | None, text: str) -> None:
    assert quiet_line(4320.0, silent) == text


def test_the_time_of_a_bar_stands_before_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`logs --timestamps` and `--grep` are about what a terminal shows of it."""

    async def shown() -> None:
        screen = Screen(grep=re.compile(b"100%"), timestamps=True)
        async with screen:
            screen.on_log("gpu1", "attempt-0/rank-0.err", b"\r 1%\r 100%\n100% is in\r 50%\n", 1.0)

    asyncio.run(shown())
    out = capfdbinary.readouterr().out
    assert re.search(r"gpu1 \[0\] ┆ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  100%\n", out.decode())
    assert b"50%" not in out


def test_what_a_rank_says_in_two_attempts_is_shown_twice(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Also where the second one begins at once; equal lines of several ranks are shown once."""

    async def shown() -> None:
        async with Screen() as screen:
            for attempt in (0, 1):
                for host in ("gpu1", "gpu2"):
                    screen.on_log(host, f"attempt-{attempt}/rank-{host[3]}.out", b"begins\n")

    asyncio.run(shown())
    out = capfdbinary.readouterr().out.decode()
    assert [line.split() for line in out.splitlines()] == [["[1-2]", "│", "begins"]] * 2
