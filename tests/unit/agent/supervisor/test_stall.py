"""A process stalls when it neither computes nor uses a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.processes.processes import cpu_seconds
from launcher.agent.supervisor.stall import StallWatch
from support import lab as labs


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says nothing: it sleeps, or it spins."""
    code = {"sleeps": "input()", "spins": "while True: pass"}[request.param]
    argv = [sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        yield child
        child.kill()


def _watch(
    pid: int, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 60.0
) -> tuple[StallWatch, list[tuple[str, dict[str, Any]]]]:
    """A watch over one rank that began just now, with so much patience; and what it records."""
    monkeypatch.chdir(folder)
    (folder / "logs" / "attempt-0").mkdir(parents=True)
    (folder / "logs" / "attempt-0" / "rank-0.out").write_bytes(
        "epoch 1\rstep ö\x1b[1m\n\n".encode()
    )
    told: list[tuple[str, dict[str, Any]]] = []
    watch = StallWatch(lambda event, **fields: told.append((event, fields)), seconds)
    watch.heard("ProcessStarted", {"key": "setup-0", "rank": None, "pid": 1, "attempt": 0})
    watch.heard("ProcessStarted", {"key": "node-0", "rank": None, "pid": 1, "attempt": 0})
    watch.heard("ProcessStarted", {"key": "rank-0", "rank": 0, "pid": pid, "attempt": 0})
    return watch, told


@pytest.mark.parametrize("process", ["sleeps"], indirect=True)
def test_silence_is_told_once_and_its_end(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the last line as a terminal shows it, and without the one that only watches."""
    watch, told = _watch(process.pid, tmp_path, monkeypatch)
    now = watch.next_look
    for _ in range(20):
        watch.look(now, False)
        now += 10.0
    ((event, fields),) = told
    assert (event, fields["seconds"]) == ("StallBegan", 60.0)
    (rank,) = fields["ranks"]
    assert (rank["key"], rank["rank"], rank["pid"]) == ("rank-0", 0, process.pid)
    assert (rank["last"], rank["bytes"]) == ("step ö\x1b[1m", 21)
    with (tmp_path / "logs" / "attempt-0" / "rank-0.err").open("w") as file:
        file.write("x")
    watch.look(now, False)
    assert told[1][0] == "StallEnded"


@pytest.mark.parametrize("process", ["sleeps"], indirect=True)
def test_what_is_ending_does_not_stall(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, told = _watch(process.pid, tmp_path, monkeypatch)
    for minute in range(9):
        watch.look(watch.next_look + minute * 60.0, True)
    assert told == []


@pytest.mark.thorough
@pytest.mark.parametrize("process", ["spins"], indirect=True)
def test_a_rank_that_computes_does_not_stall(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More CPU time than 5 % of a core: 0.3 s in 6."""
    watch, told = _watch(process.pid, tmp_path, monkeypatch, seconds=6.0)
    watch.look(watch.next_look, False)
    for turn in range(1, 4):
        used = cpu_seconds([process.pid])[process.pid]
        labs.wait_until(
            lambda used=used: cpu_seconds([process.pid])[process.pid] > used + 0.4, "work"
        )
        watch.look(watch.next_look + turn * 6.0, False)
    assert told == []


@pytest.mark.parametrize("process", ["sleeps"], indirect=True)
@pytest.mark.parametrize(("use", "stalls"), [("0, 97", False), ("0, 0", True), ("3, 97", True)])
def test_a_gpu_in_use_is_no_stall(
    process: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: str,
    stalls: bool,
) -> None:
    """One of this run, not one of somebody else."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{use}, 40, 1200'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("launcher.agent.supervisor.stall.GPU_SECONDS", 60.0)
    watch, told = _watch(process.pid, tmp_path, monkeypatch)
    watch.gpus = [0, 1]
    now = watch.next_look
    for _ in range(10):
        watch.look(now, False)
        now += 10.0
    assert bool(told) == stalls
