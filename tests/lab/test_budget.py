"""A start costs what it did: work is counted, which is the same on every machine and at any load.

A number here may rise with a reason that its commit gives; `python -m benchmarks counts` has them all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.transport.program_notes import SETTLED
from support import ROOT
from support import lab as labs
from support.command import Launcher

#: What a start asks of each host, once the code is there.
OF_A_HOST = {"probe": 1, "snapshot": 1, "supervise": 1, "follow": 1, "contact": 1, "start": 1,
             "outputs": 2, "sweep": 1}  # fmt: skip


#: Where launcher's files are on a host of the lab.
HOST_ROOT = "/root/.launcher/host"


def received(host: labs.LabHost) -> int:
    """Return how many bytes have come to a host, over all its interfaces."""
    lines = host.run("cat", "/proc/net/dev").stdout.decode().splitlines()[2:]
    found = dict(line.strip().split(":", 1) for line in lines)
    return sum(int(counts.split()[0]) for name, counts in found.items() if name != "lo")


def counted(launcher: Launcher, hosts: int, counts: Path, *what: str) -> dict[str, Any]:
    """Start a program on all hosts, by default one that does nothing."""
    command = what or ("--", "true")
    words = launcher.argv("--nodes", str(hosts), "--framework", "env", *command)
    done = subprocess.run(
        [sys.executable, "-m", "support.counted", *words[3:]],
        cwd=launcher.work,
        env={
            **launcher.environment(),
            "COUNTS": str(counts),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(counts.read_text())
    return found


@pytest.mark.usefixtures("by_asyncssh")  # over OpenSSH each command is an ssh of its own
def test_a_start_takes_the_work_it_took(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    hosts = len(clean.hosts)
    # What was edited a moment ago is not kept of what ssh says.
    edited = clean.ssh_config.stat().st_ctime
    labs.wait_until(lambda: time.time() > edited + SETTLED, "settings that are not new")
    (launcher.work / "train.py").write_text("print(1)\n")
    for host in clean.hosts.values():
        host.run("rm", "-rf", f"{HOST_ROOT}/agent")
    before = sum(map(received, clean.hosts.values()))
    first = counted(launcher, hosts, tmp_path / "first.json")
    assert sum(map(received, clean.hosts.values())) - before < 190_000 * (hosts + 1), (
        "one is behind another"
    )
    assert "add" not in first["requests"], "no host needs the rest of the agent"
    # ssh is asked about each host, what it says to any, and which files it reads. The code is read once.
    assert first["programs"] == {"ssh": hosts + 2, "rsync": 1, "git": 2}
    before = sum(map(received, clean.hosts.values()))
    again = counted(launcher, hosts, tmp_path / "again.json")
    assert again["programs"] == {"git": 2}
    assert again["connections"] == hosts
    meeting = {"listen": 1, "connect": hosts - 1, "unlisten": 1}
    wanted = {op: hosts * count for op, count in OF_A_HOST.items()} | meeting
    assert again["requests"] == wanted
    # One more on a busy machine: what shows a bad end is imported once a run has gone on for a moment.
    assert again["modules"] <= 639 + 1
    assert sum(map(received, clean.hosts.values())) - before < 40_000 * hosts
    (launcher.work / "train.py").write_text("print(2)\n")
    edited_once = counted(launcher, hosts, tmp_path / "edited.json")
    assert edited_once["programs"] == {"git": 2}
    assert edited_once["requests"] == {**wanted, "patch": hosts}


@pytest.mark.usefixtures("by_asyncssh")
def test_what_is_imported_ahead_costs_a_start_one_request(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The same with what an earlier run has left."""
    hosts = len(clean.hosts)
    launcher.script("print(1)\n")
    for host in clean.hosts.values():
        host.run("rm", "-rf", f"{HOST_ROOT}/agent")
    counted(launcher, hosts, tmp_path / "first.json", "train.py")
    first = counted(launcher, hosts, tmp_path / "first.json", "--preload", "json", "train.py")
    assert first["requests"]["add"] == hosts, "each gets the rest of the agent, once"
    for keep in ((), ("--keep-warm", "20s"), ("--keep-warm", "20s")):
        words = ("--preload", "json", *keep, "train.py")
        found = counted(launcher, hosts, tmp_path / "counts.json", *words)
        meeting = {"listen": 1, "connect": hosts - 1, "unlisten": 1}
        wanted = {op: hosts * count for op, count in (OF_A_HOST | {"preload": 1}).items()} | meeting
        assert found["requests"] == wanted
    assert "left by an earlier run on" in launcher.call("show", "-").stdout
    launcher.call("warm", "-i", str(launcher.inventory), "--end")
