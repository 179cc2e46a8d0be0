"""Control groups: what hides from descent and mark is found by its group; what a group holds is told."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from support import lab as labs
from support.command import Launcher, wait_for

HIERARCHY = "/sys/fs/cgroup"

#: It is ready once its grandchild is ``sleep``: then a pipe ends that is closed by the exec.
HIDDEN = """
import os, sys, time
hides, end = os.pipe()
end = os.dup2(end, 100, inheritable=False)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
    os._exit(0)
os.wait()
os.closerange(hides + 1, 101)
assert os.read(hides, 1) == b""
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def host(clean: labs.Lab) -> Iterator[labs.LabHost]:
    """A host with the unified hierarchy where systemd has it; a lab host has none of its own."""
    host = clean.hosts["lab1"]
    host.run("mount", "-t", "cgroup2", "cgroup2", HIERARCHY)
    try:
        yield host
    finally:
        host.run("umount", HIERARCHY)


def _sleeps(host: labs.LabHost, seconds: str) -> list[int]:
    return [p.pid for p in host.processes() if list(p.argv) == ["sleep", seconds]]


def _agents(host: labs.LabHost) -> list[int]:
    return [p.pid for p in host.processes() if "relay" in p.argv]  # and the supervisors


def _groups(host: labs.LabHost, run: str) -> list[str]:
    names = host.run("ls", HIERARCHY).stdout.decode().split()
    return [name for name in names if name.startswith(f"launcher-{run}-")]


def _hide(launcher: Launcher, home: str, seconds: str) -> tuple[subprocess.Popen[bytes], str]:
    """A run that has sent a hidden process away: the launcher's process, and the run."""
    own = Launcher(launcher.inventory, launcher.work, launcher.home / home)
    name = own.script(HIDDEN)
    process = own.start("--framework", "env", "--grace", "1s", name, seconds)
    labs.wait_until(lambda: any(own.home.glob("runs/*/logs/*/node-0.out")), "a log", 40)
    (log,) = own.home.glob("runs/*/logs/*/node-0.out")
    wait_for(log, b"ready", process)
    return process, log.parents[2].name


def _supervisor(host: labs.LabHost, run: str) -> int:
    """The parent of the run's first process."""
    (first,) = [p.pid for p in host.processes() if p.environ.get("LAUNCHER_RUN_ID") == run]
    return int(host.read(f"/proc/{first}/stat").decode().rpartition(")")[2].split()[1])


def test_a_process_without_mark_or_parent_is_ended_at_the_next_contact(
    launcher: Launcher, host: labs.LabHost
) -> None:
    """And what another run of the same user has hidden stays until that run ends."""
    other, other_run = _hide(launcher, "other", "618")
    lost, lost_run = _hide(launcher, "lost", "617")
    try:
        assert _groups(host, other_run) and _groups(host, lost_run)
        supervisor = _supervisor(host, lost_run)
        agents = len(_agents(host))
        lost.kill()  # and its relay, so that nobody is in touch
        lost.communicate()
        labs.wait_until(lambda: len(_agents(host)) < agents, "the relay to go with the launcher")
        host.run("kill", "-9", str(supervisor))
        labs.wait_until(
            lambda: not any(p.environ.get("LAUNCHER_RUN_ID") == lost_run for p in host.processes()),
            "the marked process to go with its supervisor",
        )
        assert _sleeps(host, "617")
        third = launcher.run("--framework", "env", "true")
        assert third.code == 0, third.err
        assert "lab1: cleaned up 1 process left by earlier runs" in third.err
        assert not _sleeps(host, "617")
        assert not _groups(host, lost_run)
        assert _sleeps(host, "618")
        other.send_signal(signal.SIGINT)
        other.communicate(timeout=30)
        assert not _sleeps(host, "618")
        assert not _groups(host, other_run) and not _groups(host, third.folder.name)
    finally:
        for process in (other, lost):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        for seconds in ("617", "618"):
            for pid in _sleeps(host, seconds):
                host.run("kill", "-9", str(pid), check=False)


def test_the_end_of_a_lost_run_tells_the_truth_of_hidden_processes(
    launcher: Launcher, host: labs.LabHost
) -> None:
    """The launcher is there when the supervisor is killed: nothing is left when it says so."""
    process, run = _hide(launcher, "lost", "619")
    try:
        host.run("kill", "-9", str(_supervisor(host, run)))
        process.communicate(timeout=40)
        assert process.returncode == 125
        assert not _sleeps(host, "619")
        assert not _groups(host, run)
    finally:
        process.kill()
        process.communicate()
        for pid in _sleeps(host, "619"):
            host.run("kill", "-9", str(pid), check=False)


def test_a_hierarchy_that_cannot_be_written_is_passed_over(
    launcher: Launcher, host: labs.LabHost
) -> None:
    host.run("mount", "-o", "remount,bind,ro", HIERARCHY)
    ran = launcher.run("--framework", "env", "true")
    assert ran.code == 0, ran.err
    assert "group" not in ran.err
