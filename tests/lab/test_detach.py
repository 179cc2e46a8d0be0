"""A run outlives its terminal: left on purpose or by force, and taken up again from another process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from launcher.runner.files.code_patch import MOST_BYTES
from support import lab as labs
from support.command import Launcher, of_runs, wait_for

COUNTER = """
import os, pathlib, sys, time
rank = os.environ["RANK"]
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], f"{rank}.txt").write_text(rank)
number = 0
while not pathlib.Path("/tmp/end").exists():
    print(f"line {rank} {number}", flush=True)
    number += 1
    time.sleep(0.02)
print(f"last {rank} {number}")
sys.exit(int(pathlib.Path("/tmp/end").read_text() or 0))
"""


def _hosts(lab: labs.Lab) -> list[labs.LabHost]:
    return [lab.hosts["lab1"], lab.hosts["lab2"]]


@pytest.fixture
def counting(launcher: Launcher, clean: labs.Lab) -> list[str]:
    """The words of a run of two ranks that count until they are told to end."""
    for host in _hosts(clean):
        host.run("rm", "-f", "/tmp/end")
    name = launcher.script(COUNTER)
    return ["--nodes", "2", "--framework", "torch", "--grace", "2s", name]


def _end(lab: labs.Lab, code: int = 0) -> None:
    for host in _hosts(lab):
        host.write("/tmp/end", str(code).encode())


def _pid(launcher: Launcher, run: str) -> int:
    """Return who follows a run, or did last: the lock says nothing once it is let go."""
    noted = json.loads((launcher.home / "runs" / run / "follower.json").read_text())
    return int(noted["pid"])


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def _status(launcher: Launcher) -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(launcher.call("ls", "--json", "--no-refresh").stdout)
    return value


def _complete(out: str, there: bytes) -> bool:
    """Whether every line of a log was shown, once and in order."""
    shown = re.findall(r"│ (\w+ 0 \d+)$", out, re.MULTILINE)
    return shown == there.decode().splitlines()


def test_detach_and_attach(launcher: Launcher, clean: labs.Lab, counting: list[str]) -> None:
    """It returns once all ranks run; `attach` shows every line, and ends as the run does."""
    left = launcher.run("--detach", *counting)
    assert left.code == 0, left.err
    assert "keeps running" in left.err
    (folder,) = (launcher.home / "runs").iterdir()
    run = folder.name
    (listed,) = _status(launcher)
    assert (listed["run"], listed["status"], listed["followed"]) == (run, "running", True)
    assert listed["hosts"] == ["lab1", "lab2"]
    follower = _pid(launcher, run)
    wait_for_lines(folder, 20)
    _end(clean, 3)
    attached = launcher.call("attach", run[:-2])
    assert attached.returncode == 3, attached.stderr
    assert _complete(attached.stdout, (folder / "logs/attempt-0/rank-0.out").read_bytes())
    assert "failed (exit-3)" in attached.stderr
    labs.wait_until(lambda: _gone(follower), "the follower to be gone with its run", 10)
    again = launcher.call("attach", "-")
    assert (again.returncode, again.stdout) == (3, ""), "nothing is shown twice"
    (listed,) = _status(launcher)
    assert (listed["status"], listed["reason"], listed["followed"]) == ("failed", "exit-3", False)


def wait_for_lines(folder: Path, count: int) -> None:
    logs = [folder / "logs" / "attempt-0" / f"rank-{rank}.out" for rank in (0, 1)]
    labs.wait_until(
        lambda: all(log.exists() and log.read_bytes().count(b"\n") >= count for log in logs),
        f"{count} lines of both ranks",
        30,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_a_run_that_was_left_by_force_is_taken_up(
    launcher: Launcher, clean: labs.Lab, counting: list[str], how: signal.Signals
) -> None:
    """Not a line is missing or comes twice: what the first one showed, and then the second."""
    first = launcher.start(*counting)
    try:
        labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/rank-0.out")), "a log", 30)
        (folder,) = (launcher.home / "runs").iterdir()
        wait_for_lines(folder, 20)
        os.kill(first.pid, how)
        shown, _ = first.communicate(timeout=20)
    finally:
        first.kill()
        first.communicate()
    (listed,) = _status(launcher)
    assert (listed["status"], listed["followed"]) == ("running", False)
    assert listed["reason"] == ""
    assert "running (not followed)" in launcher.call("ls", "--no-refresh").stdout
    host = clean.hosts["lab1"]
    there = f"/root/.launcher/host/runs/{folder.name}/logs/attempt-0/rank-0.out"
    before = host.read(there).count(b"\n")
    labs.wait_until(lambda: host.read(there).count(b"\n") > before + 20, "a run that goes on", 20)
    _end(clean)
    second = launcher.call("attach", "-")
    assert second.returncode == 0, second.stderr
    written = host.read(there)
    assert (folder / "logs/attempt-0/rank-0.out").read_bytes() == written
    lines = re.findall(r"(\w+ 0 \d+)\n", shown.decode() + second.stdout)
    if how == signal.SIGHUP:
        assert lines == written.decode().splitlines()
    else:  # a killed process cannot show what it held back to fold
        assert lines[-20:] == written.decode().splitlines()[-20:]
        assert sorted(set(lines)) == sorted(lines)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["status"], [h["left"] for h in receipt["hosts"]]) == ("succeeded", [0, 0])
    assert all(h["logs_complete"] for h in receipt["hosts"])
    assert sorted(o["path"] for o in receipt["outputs"]) == ["0.txt", "1.txt"]
    assert receipt["stages"]["connect"] > 0, "what the first one did is in the receipt"


def test_a_follower_that_was_killed_is_replaced_by_attach(
    launcher: Launcher, clean: labs.Lab, counting: list[str]
) -> None:
    left = launcher.run("--detach", *counting)
    assert left.code == 0, left.err
    (folder,) = (launcher.home / "runs").iterdir()
    wait_for_lines(folder, 20)
    follower = _pid(launcher, folder.name)
    os.kill(follower, signal.SIGKILL)
    labs.wait_until(lambda: _gone(follower), "the follower's end", 10)
    _end(clean)
    attached = launcher.call("attach", "-")
    assert attached.returncode == 0, attached.stderr
    assert _complete(attached.stdout, (folder / "logs/attempt-0/rank-0.out").read_bytes())


@pytest.mark.parametrize("followed", [True, False])
def test_stop_from_another_process(
    launcher: Launcher, clean: labs.Lab, counting: list[str], followed: bool
) -> None:
    """With a verified receipt, whether somebody follows the run or nobody does."""
    assert launcher.run("--detach", *counting).code == 0
    (folder,) = (launcher.home / "runs").iterdir()
    wait_for_lines(folder, 1)  # each has written its output
    follower = _pid(launcher, folder.name)
    if not followed:
        os.kill(follower, signal.SIGKILL)
        labs.wait_until(lambda: _gone(follower), "the follower's end", 10)
    stopped = launcher.call("stop", folder.name, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped (by-user)" in stopped.stderr
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    assert sorted(o["path"] for o in receipt["outputs"]) == ["0.txt", "1.txt"]
    for host in _hosts(clean):
        assert not [p for p in host.processes() if "LAUNCHER_RUN_ID" in p.environ]
    labs.wait_until(lambda: _gone(follower), "the follower's end", 10)
    again = launcher.call("stop", folder.name)
    assert again.returncode == 0
    assert "has ended already" in again.stderr


def test_two_runs_beside_each_other_do_not_meet(
    launcher: Launcher, clean: labs.Lab, counting: list[str]
) -> None:
    """On the same hosts, of the same user: one is stopped, the other does not notice."""
    folders: list[Path] = []
    for _ in range(2):
        assert launcher.run("--detach", *counting).code == 0
        (new,) = set((launcher.home / "runs").iterdir()) - set(folders)
        folders.append(new)
        wait_for_lines(new, 5)
    stopped, other = folders
    assert launcher.call("stop", stopped.name, "--grace", "1s").returncode == 0
    for host in _hosts(clean):
        left = {p.environ["LAUNCHER_RUN_ID"] for p in of_runs(host)}
        assert left == {other.name}
    count = (other / "logs/attempt-0/rank-1.out").read_bytes().count(b"\n")
    log = other / "logs/attempt-0/rank-1.out"
    labs.wait_until(lambda: log.read_bytes().count(b"\n") > count + 10, "the other to go on", 20)
    _end(clean)
    attached = launcher.call("attach", other.name)
    assert attached.returncode == 0, attached.stderr
    assert "succeeded" in attached.stderr


def test_a_detached_run_that_fails_at_once_says_so(launcher: Launcher, clean: labs.Lab) -> None:
    """As in the foreground: its exit code, its receipt, and no follower that stays."""
    ran = launcher.run("--detach", "--framework", "env", "--setup", "exit 4", "true")
    assert ran.code == 4, ran.err
    assert "setup" in ran.err
    follower = _pid(launcher, ran.folder.name)
    labs.wait_until(lambda: _gone(follower), "the follower to be gone with its run", 10)


def test_a_follower_that_dies_before_the_start_is_not_waited_for(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Who detaches is told what to do; and then nothing is left."""
    words = ["--detach", "--framework", "env", "--setup", "echo begun; sleep 600", "true"]
    leaving = launcher.start(*words)
    try:
        labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/setup-0.out")), "setup", 30)
        (folder,) = (launcher.home / "runs").iterdir()
        os.kill(_pid(launcher, folder.name), signal.SIGKILL)
        _, err = leaving.communicate(timeout=20)
    finally:
        leaving.kill()
        leaving.communicate()
    assert leaving.returncode == 125
    assert b"died before all processes were started" in err
    assert f"launcher stop {folder.name}".encode() in err
    assert launcher.call("stop", folder.name, "--grace", "1s").returncode == 0
    assert not of_runs(clean.hosts["lab1"])


def test_a_run_whose_launcher_died_before_the_start_is_ended(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Attach does not wait for what will never come; nothing is left of setup."""
    process = launcher.start("--framework", "env", "--setup", "echo begun; sleep 600", "true")
    try:
        labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/setup-0.out")), "setup", 30)
        (log,) = launcher.home.glob("runs/*/logs/*/setup-0.out")
        wait_for(log, b"begun", process)
    finally:
        process.kill()
        process.communicate()
    attached = launcher.call("attach", "-")
    assert attached.returncode == 125
    assert "launcher-died" in attached.stderr
    assert "not whole" not in attached.stderr


def test_a_run_whose_launcher_died_before_any_supervisor_is_not_lost(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """Nothing had begun on its hosts, so nothing of it can have died there."""
    launcher.script(f"# {tmp_path}\n")  # no host has it yet, and its copy never ends
    (launcher.work / "large.bin").write_bytes(os.urandom(MOST_BYTES))
    rsync = tmp_path / "bin" / "rsync"
    rsync.parent.mkdir()
    rsync.write_text(
        f"""#!/bin/sh
case " $* " in *" --version "*) exec {shutil.which("rsync")} "$@" ;; esac
: >"{tmp_path}/copying"
while [ -e /proc/$PPID/exe ]; do sleep 0.1; done
"""
    )
    rsync.chmod(0o755)
    launcher.env["PATH"] = f"{rsync.parent}:{os.environ['PATH']}"
    process = launcher.start("--nodes", "2", "--framework", "env", "true")
    try:
        labs.wait_until((tmp_path / "copying").exists, "a copy")
    finally:
        process.kill()
        process.communicate()
    del launcher.env["PATH"]
    stopped = launcher.call("stop", "-")
    assert stopped.returncode == 0, stopped.stderr
    assert "failed (launcher-died)" in stopped.stderr


def test_from_another_machine(
    launcher: Launcher, clean: labs.Lab, counting: list[str], tmp_path: Path
) -> None:
    """One that has the inventory and the keys, and nothing else: the hosts hold the truth."""
    assert launcher.run("--detach", *counting).code == 0
    (folder,) = (launcher.home / "runs").iterdir()
    wait_for_lines(folder, 20)
    follower = _pid(launcher, folder.name)
    os.kill(follower, signal.SIGKILL)
    labs.wait_until(lambda: _gone(follower), "the follower's end", 10)
    here = launcher.home
    launcher.home = tmp_path / "another machine"
    named = ["-i", str(launcher.inventory)]
    told = json.loads(launcher.call("ls", "--all-users", "--json", *named).stdout)
    assert [(run["host"], run["user"], run["run"]) for run in told] == [
        ("lab1", "root", folder.name),
        ("lab2", "root", folder.name),
    ]
    logs = launcher.call("logs", *named, "--ranks", "1", folder.name[:-1])
    assert "line 1 19" in logs.stdout, logs.stderr
    _end(clean, 3)
    attached = launcher.call("attach", folder.name)
    assert attached.returncode == 3, attached.stderr
    there = launcher.home / "runs" / folder.name
    receipt = json.loads((there / "receipt.json").read_text())
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    assert all(host["logs_complete"] for host in receipt["hosts"])
    assert sorted(o["path"] for o in receipt["outputs"]) == ["0.txt", "1.txt"]
    launcher.home = here  # and the first one finds the same truth
    assert launcher.call("attach", "-").returncode == 3
    first = json.loads((folder / "receipt.json").read_text())
    for same in ("status", "reason", "exit_code", "world_size"):
        assert first[same] == receipt[same]
    unknown = launcher.call("attach", *named, "no-such-run")
    assert unknown.returncode == 2
    assert "no run starts" in unknown.stderr


def test_names_of_runs(launcher: Launcher) -> None:
    assert "there are no runs here" in launcher.call("attach", "-").stderr
    for name in ("calm-owl-1", "calm-fox-2"):
        (launcher.home / "runs" / name).mkdir(parents=True)
        (launcher.home / "runs" / name / "events.jsonl").touch()
    several = launcher.call("attach", "calm")
    assert several.returncode == 2
    assert 'several runs start with "calm"' in several.stderr
    unknown = launcher.call("attach", "calm-owk-1")
    assert 'did you mean "calm-owl-1"?' in unknown.stderr
    broken = launcher.call("attach", "calm-o")
    assert "nothing was started" in broken.stderr
