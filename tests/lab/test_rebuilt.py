"""What the hosts' journals alone tell is what the record here tells: status, reason and all else."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from launcher.agent.base.journal import read_from
from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.records.run_folder import RunFolder
from launcher.records.state import fold
from launcher.runner.policy import outcome
from launcher.spec.model import Host, Layout, Node
from support import lab as labs
from support.command import Launcher, follower, kill_follower
from support.journals import told, truth


def layout_of(hosts: Iterable[str]) -> Layout:
    return Layout("r", tuple(Node(Host(name), rank, 1, rank) for rank, name in enumerate(hosts)))


SCRIPT = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("attempt", os.environ["LAUNCHER_ATTEMPT"], flush=True)
while os.environ["LAUNCHER_ATTEMPT"] == "0" and os.environ["RANK"] == "1":
    sys.exit(3)
while not pathlib.Path("/tmp/end").exists():
    time.sleep(0.02)
sys.exit(int(pathlib.Path("/tmp/end").read_text() or 0))
"""
WORDS = ["--nodes", "2", "--framework", "torch", "--grace", "300ms"]


def _run(launcher: Launcher, lab: labs.Lab) -> Path:
    """A run in its second attempt, of which all has been heard; its follower goes on."""
    for name in ("lab1", "lab2"):
        lab.hosts[name].run("rm", "-f", "/tmp/end")
    script = launcher.script(SCRIPT)
    left = launcher.run("--detach", "--max-restarts", "1", *WORDS, script)
    assert left.code == 0, left.err
    log = left.folder / "logs" / "attempt-1" / "rank-1.out"
    labs.wait_until(lambda: log.exists() and log.read_bytes() != b"", "the second attempt", 30)
    return left.folder


def _recorded(folder: Path) -> list[ev.Event]:
    events = ev.decode_lines((folder / "events.jsonl").read_bytes())
    return [event for event in events if not isinstance(event, ev.RunEnded)]


def _journals(lab: labs.Lab, folder: Path) -> dict[str, list[ev.Event]]:
    """From the hosts' own files, in our time."""
    connected = [e for e in _recorded(folder) if isinstance(e, ev.HostConnected)]
    found = {}
    for event in connected:
        place = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
        path = lab.hosts[event.host].path(place)
        journal = (line for line, _ in read_from(str(path), 0))
        found[event.host] = told(event.host, journal, event.clock_offset)
    return found


def test_a_real_run_with_a_restart_is_rebuilt_from_its_hosts(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Their files against the folder here, while it goes on and after its end."""
    folder = _run(launcher, clean)
    first, second = _journals(clean, folder).values()
    assert fold(first + second).attempt == 1
    assert fold(first + second).status == "running"
    for host in ("lab1", "lab2"):
        clean.hosts[host].write("/tmp/end", b"0")
    assert launcher.call("attach", "-").returncode == 0
    here = _recorded(folder)
    first, second = _journals(clean, folder).values()
    for order in (first + second, second + first):
        assert truth(fold(order)) | {"status": ""} == truth(fold(here)) | {"status": ""}
        ended = outcome.decide(fold(order), layout_of(("lab1", "lab2")))
        assert ended.status == "succeeded"


def test_another_machine_takes_up_a_second_attempt(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The failure of the first attempt is over: it does not end the run there."""
    folder = _run(launcher, clean)
    kill_follower(folder)
    launcher.home = tmp_path / "another machine"
    logs = launcher.call("logs", "-i", str(launcher.inventory), folder.name)
    assert "attempt 1" in logs.stdout, logs.stderr
    clean.hosts["lab1"].write("/tmp/end", b"0")
    clean.hosts["lab2"].write("/tmp/end", b"5")
    attached = launcher.call("attach", folder.name)
    assert attached.returncode == 5, attached.stderr
    shown = json.loads(launcher.call("show", "--json", folder.name).stdout)
    assert (shown["status"], shown["reason"]) == ("failed", "exit-5")


@pytest.mark.parametrize("cables", ["plugged", "pulled"])
def test_a_stop_whose_launcher_was_killed_stays_a_stop(
    launcher: Launcher, clean: labs.Lab, cables: str
) -> None:
    """Ranks that we ended have not succeeded, whoever writes the receipt; nor does a run go on because
    its hosts could not hear that it is to end."""
    folder = _run(launcher, clean)
    follows, hosts = follower(folder), [clean.hosts["lab1"], clean.hosts["lab2"]]
    try:
        if cables == "pulled":
            for host in hosts:
                host.unplug()
        os.kill(follows, signal.SIGINT)
        events = folder / "events.jsonl"
        labs.wait_until(lambda: b'"by-user"' in events.read_bytes(), "the stop", 20)
    finally:
        os.kill(follows, signal.SIGKILL)
        if cables == "pulled":
            for host in hosts:
                host.plug()
    attached = launcher.call("attach", folder.name)
    assert "stopped (by-user)" in attached.stderr
    assert attached.returncode == 130


def test_a_stop_that_no_host_has_heard_is_carried_out(launcher: Launcher, clean: labs.Lab) -> None:
    """Its launcher had written it down, and died before it could tell anybody."""
    folder = _run(launcher, clean)
    kill_follower(folder)
    record = RunFolder(folder)
    record.record(ev.StopRequested(time.time(), StopReason.BY_USER))
    record.close()
    attached = launcher.call("attach", folder.name)
    assert "stopped (by-user)" in attached.stderr
    assert attached.returncode == 130
