"""A rank that only asks, thousands of times a second, whether the others are there has stalled; one that
works a little has not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.processes.processes import cpu_seconds
from launcher.agent.supervisor import polling
from launcher.agent.supervisor.polling import Polling
from launcher.agent.supervisor.stall import NOISE, StallWatch

#: Seconds without work after which a rank stalls, by a clock of its own: one on which it uses a tenth of
#: a core, whatever the machine leaves it.
SILENT, SHARE = 2.0, 0.1
#: What waits as Open MPI does: a look every tenth of a millisecond. What a look costs is counted in CPU
#: time, which a busy machine does not stretch.
ASKS = """
import time
with open("/dev/zero", "rb", buffering=0) as file:
    while True:
        until = time.thread_time() + 8e-6
        while time.thread_time() < until:
            pass
        time.sleep(100e-6)
"""
#: As short as that, but each time something was there.
READS = ASKS.replace("pass", "file.read(4000)")
#: A tenth of a core, in pieces that are no wake-ups: real work.
WORKS = """
import time
while True:
    until = time.thread_time() + 0.01
    while time.thread_time() < until:
        pass
    time.sleep(0.09)
"""


@pytest.mark.parametrize(("code", "stalls"), [(ASKS, True), (WORKS, False), (READS, False)])
def test_only_asking_is_no_work(
    code: str, stalls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[tuple[str, dict[str, Any]]] = []
    watch = StallWatch(lambda event, **fields: told.append((event, fields)), SILENT)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", code]) as child:
        began = {"key": "rank-0", "rank": 0, "pid": child.pid, "attempt": 0}
        try:
            watch.heard("ProcessStarted", began)
            start, passed = time.monotonic(), 0.0
            # One slow look on a busy machine is taken for work, and the silence begins again.
            while not told and passed < (10 if stalls else 2) * SILENT:
                passed = cpu_seconds([child.pid])[child.pid] / SHARE
                watch.look(start + passed, False)
                time.sleep(0.02)
        finally:
            child.kill()
    assert bool(told) == stalls


@pytest.mark.parametrize(
    ("used", "counts", "wake", "spent"),
    [
        (0.7, (50_000, 0), 10e-6, 0.7),  # Open MPI, where it costs most
        (0.7, (50_000, 5_000_000), 10e-6, 0.0),  # it reads
        (0.7, (1_000, 0), 10e-6, 0.03),  # in larger pieces
        (1.4, (50_000, 0), 10e-6, 1.0),  # more than polling costs
        (9.0, (500_000, 0), 10e-6, 0.0),  # threads that hand work to each other
        (0.1, (50_000, 0), 10e-6, 0.0),  # idle anyway
        (1.8, (42_000, 0), 10e-6, 0.0),  # Open MPI on a slow machine's scale, but this one is fast
        (1.8, (42_000, 0), 35e-6, 1.8),  # the same where each wake-up is slow
        (6.0, (42_000, 0), 300e-6, 0.0),  # more than any polling
    ],
)
def test_what_is_spent_on_polling(
    used: float,
    counts: tuple[int, int],
    wake: float,
    spent: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In ten seconds of one process that used so much in them, with so many wake-ups and bytes, on a
    machine whose own wake-ups cost so much."""
    slept: list[float] = []
    monkeypatch.setattr(polling.time, "sleep", slept.append)
    monkeypatch.setattr(polling.time, "thread_time", lambda: wake * len(slept))
    monkeypatch.setattr(polling, "_count", lambda _: total)
    watch, total = Polling(NOISE), (7, 7)
    assert watch.spent(1, 0.0, 0.0) == 0.0
    assert watch.spent(1, 10.0, 0.7) == 0.0, "nothing was counted before"
    total = (7 + counts[0], 7 + counts[1])
    assert watch.spent(1, 20.0, 0.7 + used) == pytest.approx(spent)


def test_what_cannot_be_seen_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a process may be gone, or another user's."""
    monkeypatch.setattr(polling.processes, "descendants", lambda _: [])
    watch = Polling(NOISE)
    for second in range(4):
        assert watch.spent(2**22 + 1, float(second), 0.07 * second) == 0.0
