"""A host that the launcher cannot reach when a run ends: what it hears of that, and who cleans it later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from support import lab as labs
from support.command import Launcher, follower, of_runs, wait_for

#: It needs longer to save than the job's grace.
SAVES = """
import signal, time
def save(*_):
    time.sleep(2.5)
    open("/tmp/saved", "w").close()
    raise SystemExit
signal.signal(signal.SIGTERM, save)
open("/tmp/ready", "w").close()
time.sleep(600)
"""


def test_the_grace_of_a_stop_reaches_a_host_that_only_the_others_reach(
    own: labs.Lab, launcher: Launcher
) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name, away = launcher.script(SAVES), own.hosts["lab2"]
    words = ["--nodes", "2", "--framework", "torch", "--lost-after", "1s", "--grace", "1s", name]
    begun = launcher.run("--detach", *words)
    assert begun.code == 0, begun.err
    for host in own.hosts.values():
        labs.wait_until(lambda host=host: _there(host, "/tmp/ready"), "its handler")
    follows = follower(begun.folder)
    os.kill(follows, signal.SIGSTOP)  # it is not to give up the host before it hears the wish
    argv = [sys.executable, "-m", "launcher", "stop", "-", "--grace", "30s"]
    stopping = subprocess.Popen(argv, env=launcher.environment(), stderr=subprocess.PIPE)
    try:
        labs.wait_until((begun.folder / "stop.json").exists, "the wish")
        away.stop_sshd()
        away.kill_sshd_sessions()
    finally:
        os.kill(follows, signal.SIGCONT)
        _, err = stopping.communicate(timeout=60)
    assert b"processes may still run there" in err
    labs.wait_until(lambda: not of_runs(away), "the end there", 20)
    assert _there(away, "/tmp/saved")


def _there(host: labs.LabHost, path: str) -> bool:
    return host.run("test", "-e", path, check=False).returncode == 0


@pytest.mark.parametrize("by", ["stop", "another run", "exec", "ls, after the lease"])
def test_a_host_that_was_away_is_cleaned_when_it_is_next_reached(
    own: labs.Lab, launcher: Launcher, by: str
) -> None:
    """By any command that asks it; and the receipt is corrected, with the end of a lease as well."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    words = ["--nodes", "2", "--framework", "torch", "--lost-after", "1s", "--grace", "1s", name]
    lease = "lease" in by
    process = launcher.start(*(["--orphan-timeout", "6s"] if lease else []), *words)
    away = own.hosts["lab2"]
    try:
        labs.wait_until(lambda: len(list(launcher.home.glob("runs/*/logs/*/rank-1.out"))), "a log")
        (log,) = launcher.home.glob("runs/*/logs/*/rank-1.out")
        wait_for(log, b"ready", process)
        away.stop_sshd()  # its processes go on: only we cannot come there,
        away.drop_packets("lab1")  # and nor does it hear of the end from the other host
        away.kill_sshd_sessions()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    folder = log.parent.parent.parent
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["status"], [h["left"] for h in receipt["hosts"]]) == ("lost", [0, None])
    assert b"processes may still run there" in err
    assert lease or of_runs(away), "nobody has told it"
    if lease:
        labs.wait_until(lambda: not of_runs(away), "the host to stop by itself", 20)
    away.start_sshd()
    if by == "stop":
        assert launcher.call("stop", folder.name).returncode == 0
    elif by == "exec":
        assert launcher.call("exec", folder.name, "--", "true").returncode == 0
    elif lease:
        named = ["-i", str(launcher.inventory)]
        assert launcher.call("ls", "--all-users", *named).returncode == 0
    else:
        other = launcher.run("--hosts", "lab2", "--framework", "env", "true")
        assert other.code == 0, other.err
        assert f"lab2: cleaned up leftovers of {folder.name}" in other.err
    assert not of_runs(away)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    assert "reached again" in receipt["hosts"][1]["verified"]
    assert [bool(host["expiry"]) for host in receipt["hosts"]] == [False, lease]
    if lease:
        assert receipt["started"] + 6 < receipt["hosts"][1]["expiry"]["time"] < time.time()
    assert not list((launcher.home / "unfinished").iterdir())
