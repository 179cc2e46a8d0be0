"""Stalls: no rank does anything. Who is behind is said, and stacks of all ranks come back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher

WAITERS = """
import os, pathlib, time

def waiting_for_godot():
    while not pathlib.Path("/tmp/godot").exists():
        time.sleep(0.5)

print("step 1", flush=True)
if os.environ["RANK"] == "1":
    waiting_for_godot()
else:
    os.mkfifo("/tmp/fifo")
    while not pathlib.Path("/tmp/later").exists():
        print("step 2", flush=True)
        time.sleep(0.05)
    open("/tmp/fifo").read()
    print("step 3")
"""


@pytest.fixture
def waiters(launcher: Launcher, clean: labs.Lab) -> Iterator[Launcher]:
    """Hosts with their own Python, and nothing left of the scripts here."""
    launcher.inventory.write_text(labs.inventory(clean, "python3"))
    traces = ["/tmp/godot", "/tmp/later", "/tmp/fifo", "/usr/local/bin/py-spy"]
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-f", *traces)
    yield launcher
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-f", *traces)


def _events(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in home.glob("runs/*/events.jsonl"):
        found = journals.lines(file.read_bytes())
    return found


def _is_told(home: Path, event: str, host: str | None = None) -> bool:
    return any(e["event"] == event and host in (None, e["host"]) for e in _events(home))


@contextlib.contextmanager
def _stalling(launcher: Launcher, lab: labs.Lab, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run of which one host stalls, and then both."""
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", *words)
    process = launcher.start("--stall-timeout", "4s", *words, launcher.script(WAITERS))
    try:
        labs.wait_until(
            lambda: process.poll() is not None or _is_told(launcher.home, "StallBegan", "lab2"),
            "a stall of one host",
        )
        assert not _is_told(launcher.home, "RunStalled"), "the other host goes on"
        lab.hosts["lab1"].write("/tmp/later", b"")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _stacks(home: Path) -> dict[str, str]:
    """What came back, by host and rank."""
    files = home.glob("runs/*/outputs/stalls/*.txt")
    return {file.name.partition("-")[2]: file.read_text() for file in files}


def _py_spy() -> str:
    path = shutil.which("py-spy", path=f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}")
    if path is None:
        pytest.skip("there is no py-spy here: pip install -e '.[test]'")
    return path


#: A py-spy as it is where the kernel lets only ancestors look into a process.
REFUSED = b"#!/bin/sh\necho 'Error: Permission Denied: Try running again with elevated permissions' >&2; exit 1\n"


@pytest.mark.parametrize("spy", ["there", "refused", "missing"])
def test_a_stall_is_reported_and_the_run_goes_on(
    waiters: Launcher, clean: labs.Lab, spy: str
) -> None:
    """With the rank that is behind; stacks by py-spy, or else by the Pythons themselves."""
    if spy != "missing":
        program = Path(_py_spy()).read_bytes() if spy == "there" else REFUSED
        for name in ("lab1", "lab2"):
            clean.hosts[name].write("/usr/local/bin/py-spy", program, 0o755)
    with _stalling(waiters, clean) as process:
        labs.wait_until(
            lambda: process.poll() is not None or len(_stacks(waiters.home)) == 2, "stacks"
        )
        seen = _stacks(waiters.home)
        clean.hosts["lab1"].run("sh", "-c", "echo >/tmp/fifo")
        clean.hosts["lab2"].write("/tmp/godot", b"")
        err = process.communicate(timeout=40)[1].decode()
    assert process.returncode == 0, err
    assert "no progress for " in err
    assert "lab2 rank 1 is behind: its log fell silent first" in err
    assert ": step 1\n" in err
    assert set(seen) == {"lab1-rank-0.txt", "lab2-rank-1.txt"}
    assert "waiting_for_godot" in seen["lab2-rank-1.txt"]
    assert "train.py" in seen["lab1-rank-0.txt"]
    assert ("There is no py-spy on this host" in seen["lab2-rank-1.txt"]) == (spy == "missing")
    assert ("Permission Denied" in seen["lab2-rank-1.txt"]) == (spy == "refused")
    assert _is_told(waiters.home, "StallEnded")


def test_a_stall_stops_the_run_where_that_is_wanted(waiters: Launcher, clean: labs.Lab) -> None:
    with _stalling(waiters, clean, "--on-stall", "stop") as process:
        err = process.communicate(timeout=40)[1].decode()
    (file,) = waiters.home.glob("runs/*/receipt.json")
    receipt = json.loads(file.read_text())
    assert (receipt["status"], receipt["reason"]) == ("failed", "stalled"), err
    assert receipt["exit_code"] == 125
    assert "lab2 rank 1 is behind" in receipt["error"]
    assert set(_stacks(waiters.home)) == {"lab1-rank-0.txt", "lab2-rank-1.txt"}
    assert all(host["left"] == 0 and host["logs_complete"] for host in receipt["hosts"])


def test_what_torchrun_does_to_watch_its_ranks_hides_no_stall(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """It looks at them ten times a second; only the ranks themselves count."""
    name = launcher.script("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    words = ("--nproc-per-node", "2", "--stall-timeout", "3s", "--on-stall", "stop")
    ran = launcher.run(*words, "--grace", "1s", name)
    assert ran.code == 125, ran.err
    assert ran.receipt["reason"] == "stalled"
    assert set(_stacks(ran.home)) == {"lab1-rank-0.txt", "lab1-rank-1.txt"}


#: As Python ends, it frees an object in C, with its lock held, which waits there.
HANGS = """
import ctypes, os, sys

if os.environ["RANK"] == "1":
    libc = ctypes.CDLL(None)
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    sys.held = [make(1, None, ctypes.cast(libc.pause, ctypes.c_void_p)) for _ in range(50)]
print("trained", flush=True)
"""


def test_a_rank_that_hangs_as_python_ends(waiters: Launcher, clean: labs.Lab) -> None:
    """First which rank the run waits for, then that nothing of its script is left."""
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", "--on-stall", "stop")
    ran = waiters.run("--stall-timeout", "3s", *words, waiters.script(HANGS))
    assert ran.code == 125, ran.err
    assert "lab2 rank 1 is behind: all others have ended with 0" in ran.err
    assert "lab2 rank 1 has finished its script, and hangs as Python ends" in ran.err
    assert "hangs as Python ends" in ran.receipt["error"]
