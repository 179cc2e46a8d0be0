"""What goes wrong while hosts build an environment: each ends with its cause, and the next run works."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher
from support.wheels import write_wheel

ENVS = "/root/.launcher/host/envs"
WHEELS = "/srv/wheels"
WORDS = ("--framework", "env", "--uv", ".", "--wheels", WHEELS)
SHOW = ("python", "-c", "import one; print('has', one.version)")
SPECS = (labs.HostSpec("small", home_size="200M"), labs.HostSpec("wide"))
#: A FAKE of uv, for one that takes long: it has a child, and says where it is.
SLOW = """#!/bin/sh
case $1 in
  --version) echo "uv 0.99 (fake)";;
  *) echo "slow uv"; touch /tmp/building; sleep 3000 & wait;;
esac
"""


@pytest.fixture
def hosts(own: labs.Lab, launcher: Launcher, tmp_path: Path) -> labs.Lab:
    """Two hosts with a folder of wheels outside of their homes; one home is small."""
    launcher.inventory = tmp_path / "own.yaml"
    launcher.inventory.write_text(labs.inventory(own, sys.executable))
    wheel = write_wheel(tmp_path, "one", "1.0", data=b"x" * (40 << 20))
    for host in own.hosts.values():
        host.run("mkdir", "-p", WHEELS)
        host.run("sh", "-c", f"cat >{WHEELS}/{wheel.name}", input=wheel.read_bytes())
    (launcher.work / "requirements.txt").write_text("one\n")
    return own


def building(host: labs.LabHost) -> list[labs.Process]:
    """Return what of a build runs on a host."""
    return [p for p in host.processes() if "uv" in p.argv[0] + p.argv[1] or "sleep" in p.argv[0]]


@pytest.mark.parametrize("own", [SPECS], indirect=True)
def test_a_disk_that_is_full_while_a_host_builds(hosts: labs.Lab, launcher: Launcher) -> None:
    small = hosts.hosts["small"]
    (launcher.work / "none").mkdir()
    (launcher.work / "none" / "requirements.txt").write_text("")
    brought = ("--framework", "env", "--uv", "none", "true")
    assert launcher.run("--hosts", "small", *brought).code == 0
    left = "head -c 20000000 /dev/zero >~/a; cat /dev/zero >~/ballast; rm ~/a"
    small.run("sh", "-c", left, check=False)
    ran = launcher.run("--hosts", "small,wide", *WORDS, *SHOW)
    assert (ran.code, ran.receipts[-1]["reason"]) == (125, "disk-full")
    said = "small: no space left for launcher's files: failed to write to file"
    assert said in ran.err, ran.err
    assert "Traceback" not in ran.err
    assert not [host.name for host in hosts.hosts.values() if building(host)]
    small.run("rm", "/root/ballast")
    again = launcher.run("--hosts", "small,wide", *WORDS, *SHOW)
    assert again.code == 0, again.err
    assert "has 1.0" in again.out


@pytest.mark.parametrize("victim", ["uv", "agent", "agent and guard", "launcher", "cable"])
@pytest.mark.parametrize("own", [SPECS[1:]], indirect=True)
def test_whoever_is_killed_while_a_host_builds(
    hosts: labs.Lab, launcher: Launcher, victim: str
) -> None:
    wide = hosts.hosts["wide"]
    wide.run("mkdir", "-p", "/root/.local/bin")
    wide.write("/root/.local/bin/uv", SLOW.encode())
    wide.run("chmod", "755", "/root/.local/bin/uv")
    began = launcher.start(*WORDS, *SHOW)
    labs.wait_until(lambda: wide.exists("/tmp/building"), "a build", 60)
    if victim == "launcher":
        began.kill()
    elif victim == "cable":
        wide.unplug()
    elif victim == "uv":
        (uv,) = (p.pid for p in building(wide) if "uv" in p.argv[1])
        wide.run("kill", "-9", str(uv))
    else:  # the guard is a copy of the agent that has come later
        agents = sorted(p.pid for p in wide.processes() if "relay" in p.argv)
        wide.run("kill", "-9", *map(str, agents if "guard" in victim else agents[:1]))
    _, err = began.communicate(timeout=120)
    wide.plug()
    if victim == "uv":
        assert b"wide: the environment of . cannot be built: slow uv" in err
        assert receipt(launcher)["reason"] == "no-environment"
    elif victim != "launcher":
        assert receipt(launcher)["reason"] == "connection-lost", err
    if victim != "agent and guard":
        labs.wait_until(lambda: not building(wide), "an end of the build", 60)
    wide.run("rm", "/root/.local/bin/uv")
    again = launcher.run(*WORDS, *SHOW)
    assert again.code == 0, again.err
    assert "has 1.0" in again.out
    assert not building(wide)
    assert wide.run("sh", "-c", f"ls {ENVS} | grep -c '[.][0-9]*$'").stdout.strip() == b"1"


def receipt(launcher: Launcher) -> dict[str, Any]:
    """Return that of the only run."""
    (path,) = launcher.home.glob("runs/*/receipt.json")
    return dict(json.loads(path.read_text()))
