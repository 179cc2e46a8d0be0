"""Stalls: no rank does anything. Who is behind is said, and stacks of all ranks come back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.processes.processes import cpu_seconds
from launcher.agent.supervisor.stall import StallWatch
from launcher.records import events as ev
from launcher.records import stalls as stall
from launcher.records.reasons import StopReason
from launcher.records.state import RunState, fold
from support import lab as labs
from support.command import Launcher

# -- who is behind


def began(host: str, *ranks: tuple[int, float, str], time: float = 100.0) -> ev.StallBegan:
    """Each rank: its number, when its log fell silent, its last line ("" for a log without any)."""
    told = tuple(
        {"key": f"rank-{n}", "rank": n, "pid": n, "silent": time - at, "cpu": 1.0,
         "bytes": len(last), "last": last}
        for n, at, last in ranks
    )  # fmt: skip
    return ev.StallBegan(time, host, 10.0, told)


@pytest.mark.parametrize(
    ("first", "second", "behind"),
    [
        ([(0, 88.0, "step 2"), (1, 80.0, "step 1")], [(2, 89.0, "x")], 1),
        ([(0, 88.0, "step 2"), (1, 80.0, "step 2")], [(2, 89.0, "step 1")], 2),
        ([(0, 88.0, "step 2"), (1, 80.0, "step 2")], [(2, 79.0, "step 2")], 2),
        ([(0, 88.0, "step 2"), (1, 88.1, "step 2")], [(2, 88.2, "step 2")], None),
        ([(0, 88.0, "step 2"), (1, 70.0, "")], [(2, 70.0, "")], None),
        ([(0, 88.0, ""), (1, 70.0, "")], [(2, 70.0, "")], None),
    ],
    ids=[
        "silent first",
        "another last line",
        "all equal",
        "together",
        "only rank 0 writes",
        "nobody writes",
    ],
)
def test_who_is_behind(first: Any, second: Any, behind: int | None) -> None:
    stalled = {"gpu1": began("gpu1", *first), "gpu2": began("gpu2", *second, time=101.0)}
    assert stall.describe(stalled, 102.0).rank == behind


@pytest.mark.parametrize(
    ("keys", "used", "behind"),
    [
        (("rank-0", "rank-1"), (5.0, 0.02), "gpu2 rank 1"),
        (("rank-0", "rank-1"), (5.0, 2.0), "gpu1 rank 0"),  # by its log
        (("rank-0", "rank-1"), (0.3, 0.02), "gpu1 rank 0"),
        (("worker-0", "worker-1"), (5.0, 0.02), "gpu2 worker-1"),
        (("chief-0", "ps-0"), (5.0, 0.02), "gpu1 chief-0"),  # of another kind
    ],
)
def test_who_has_never_come(keys: Any, used: Any, behind: str) -> None:
    """It waits for something before it joins the others, which have imported a framework."""
    ranks = [began(f"gpu{n + 1}", (n, 80.0 + 2 * n, "here")).ranks[0] for n in range(2)]
    stalled = {
        f"gpu{n + 1}": ev.StallBegan(
            100.0, f"gpu{n + 1}", 10.0, ({**rank, "key": key, "cpu": cpu},)
        )
        for n, (rank, key, cpu) in enumerate(zip(ranks, keys, used, strict=True))
    }
    assert stall.describe(stalled, 102.0).behind.startswith(f"{behind} is behind: ")


def test_a_run_stalls_when_all_that_goes_on_stalls() -> None:
    def state(*events: ev.Event) -> RunState:
        started = [ev.ProcessStarted(0.0, h, 0, "rank-0", 0, 5) for h in ("gpu1", "gpu2")]
        return fold([*started, *events])

    def stalled(*events: ev.Event) -> bool:
        return stall.has_stalled(state(*events), ["gpu1", "gpu2"])

    one, two = began("gpu1", (0, 90.0, "x")), began("gpu2", (1, 90.0, "x"))
    assert not stalled(one)
    assert stalled(one, two)
    assert stalled(one, ev.HostEnded(1.0, "gpu2", 0, 9, 0)), "it waits for a host that has ended"
    assert not stalled(one, two, ev.StallEnded(2.0, "gpu1", 3.0))
    assert not stalled(one, two, ev.ConnectionDropped(2.0, "gpu2", "x")), "who knows what it does"
    assert not stalled(one, two, ev.StopRequested(2.0, StopReason.BY_USER))
    assert not stalled()
    again = replace(two, time=130.0)
    assert not stall.has_stalled(state(one, two), ["gpu1", "gpu2"], [one, two]), "it is known"
    ended = ev.HostEnded(120.0, "gpu1", 0, 9, 0)
    assert not stall.has_stalled(state(one, two, ended), ["gpu1", "gpu2"], [one, two])
    assert stall.has_stalled(state(one, two, again), ["gpu1", "gpu2"], [one, two])


# -- what a host notices


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
    smi.write_text(f"#!/bin/sh\necho '{use}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    watch, told = _watch(process.pid, tmp_path, monkeypatch)
    watch.gpus = [0, 1]
    now = watch.next_look
    for _ in range(10):
        watch.look(now, False)
        now += 10.0
    assert bool(told) == stalls


# -- a run

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
        found = [json.loads(line) for line in file.read_text().splitlines()]
    return found


def _is_told(home: Path, event: str, host: str | None = None) -> bool:
    return any(e["event"] == event and host in (None, e["host"]) for e in _events(home))


@contextlib.contextmanager
def _stalling(launcher: Launcher, lab: labs.Lab, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run of which one host stalls, and then both."""
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", *words)
    process = launcher.start("--stall-timeout", "1s", *words, launcher.script(WAITERS))
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
    assert "stalled: no rank wrote or computed anything for " in err
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
