"""--orphan-timeout: hosts that nobody reaches stop the run on their own, and only then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher, wait_for

SLEEPER = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"

#: Prints a number every 20th of a second, until it is told to end.
CLOCK = """
import itertools, pathlib, time
for tick in itertools.count():
    print(tick, flush=True)
    if pathlib.Path("/tmp/end").exists():
        break
    time.sleep(0.05)
"""
SECOND = 20
#: Longer than a busy machine keeps a launcher from telling that it is there.
TIMEOUT = 6.0


@contextlib.contextmanager
def _running(
    launcher: Launcher, script: str, *words: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run on two hosts, and its folder, as soon as the second rank speaks."""
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", *words)
    process = launcher.start(*words, launcher.script(script))
    try:
        found = "runs/*/logs/*/rank-1.out"
        labs.wait_until(
            lambda: process.poll() is not None or any(launcher.home.glob(found)), "a log"
        )
        (log,) = launcher.home.glob(found)
        wait_for(log, b"\n", process)
        yield process, log.parent.parent.parent
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _journal(host: labs.LabHost, run: Path) -> list[dict[str, Any]]:
    """What the host itself has written down."""
    return journals.lines(host.read(f"/root/.launcher/host/runs/{run.name}/journal.jsonl"))


def _is_empty(host: labs.LabHost, run: Path) -> bool:
    """Whether neither a rank nor the supervisor is alive there."""
    alive = {p.pid for p in host.processes()}
    ranks = [p for p in host.processes() if "LAUNCHER_RUN_ID" in p.environ]
    return not ranks and _journal(host, run)[0]["pid"] not in alive


def _there(host: labs.LabHost, run: Path) -> bytes:
    return host.read(f"/root/.launcher/host/runs/{run.name}/logs/attempt-0/rank-1.out")


def _last(log: bytes) -> int:
    """The last whole number of a log."""
    return int(log[: log.rindex(b"\n")].split()[-1])


@pytest.mark.parametrize("how", ["cable", "frozen"])
def test_a_host_without_contact_stops_by_itself_and_the_receipt_tells(
    launcher: Launcher, clean: labs.Lab, how: str
) -> None:
    """Without a cable, or with a launcher that is connected but stands still (a closed laptop)."""
    host = clean.hosts["lab2"]
    with _running(launcher, SLEEPER, "--orphan-timeout", f"{TIMEOUT}s") as (process, run):
        try:
            host.unplug() if how == "cable" else os.kill(process.pid, signal.SIGSTOP)
            labs.wait_until(lambda: _is_empty(host, run), "an empty host")
            assert process.poll() is None
        finally:
            host.plug()
            os.kill(process.pid, signal.SIGCONT)
        _, err = process.communicate(timeout=60)
        receipt = json.loads((run / "receipt.json").read_text())
        assert (receipt["status"], receipt["reason"]) == ("stopped", "orphan-timeout"), err.decode()
        assert process.returncode == 125
        assert receipt["failure"] is None
        assert receipt["hosts"][1]["expiry"]["silent"] >= TIMEOUT
        assert (receipt["hosts"][0]["expiry"] is None) == (how == "cable")
        assert all(h["left"] == 0 and h["logs_complete"] for h in receipt["hosts"])
        assert b"lab2 stopped on its own on " in err


def test_after_kill_9_of_the_launcher_hosts_stop_when_the_timeout_is_over(
    launcher: Launcher, clean: labs.Lab
) -> None:
    with _running(launcher, SLEEPER, "--orphan-timeout", f"{TIMEOUT}s") as (process, run):
        process.kill()
        process.communicate(timeout=20)
        for host in (clean.hosts["lab1"], clean.hosts["lab2"]):
            labs.wait_until(lambda host=host: _is_empty(host, run), f"{host} to be empty")
            told = {record["event"]: record for record in _journal(host, run)}
            assert told["OrphanTimeoutExpired"]["silent"] >= TIMEOUT
            assert told["HostEnded"]["left"] == 0


@pytest.mark.parametrize(("words", "away"), [(["--orphan-timeout", "10s"], 1), ([], 3)])
def test_a_partition_that_heals_in_time_leaves_no_trace(
    launcher: Launcher, clean: labs.Lab, words: list[str], away: int
) -> None:
    """Within the timeout, or as long as it likes without one. All of it is longer than the timeout."""
    host = clean.hosts["lab2"]
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-f", "/tmp/end")
    with _running(launcher, CLOCK, *words) as (process, run):
        try:
            host.unplug()
            begun = _last(_there(host, run))
            labs.wait_until(lambda: _last(_there(host, run)) > begun + away * SECOND, "some time")
        finally:
            host.plug()
        log = run / "logs" / "attempt-0" / "rank-1.out"
        labs.wait_until(
            lambda: process.poll() is not None or _last(log.read_bytes()) > begun + 12 * SECOND,
            "the log to go on",
            60,
        )
        for name in ("lab1", "lab2"):
            clean.hosts[name].write("/tmp/end", b"")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert log.read_bytes() == _there(host, run)
        assert "OrphanTimeoutExpired" not in [record["event"] for record in _journal(host, run)]


def test_a_timeout_of_nothing_is_refused(launcher: Launcher) -> None:
    launcher.script("")
    ran = launcher.run("--orphan-timeout", "0", "train.py")
    assert ran.code == 2
    assert "--orphan-timeout 0" in ran.err


def test_the_old_name_works_with_a_notice(launcher: Launcher) -> None:
    """For one version. It is not in the help."""
    launcher.script("")
    ran = launcher.run("--lease", "30m", "--dry-run", "train.py")
    assert ran.code == 0, ran.err
    assert ran.err == "note: --lease is now --orphan-timeout\n"
    assert "--lease" not in launcher.call("run", "--help").stdout
