"""Reservations: GPUs that a run without ranks holds until a time that everybody sees."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher

TWO = (labs.HostSpec("gpu1", gpus=4, own_name=""), labs.HostSpec("gpu2", gpus=4))
#: Kills the process that says until when it holds GPUs.
KILL_SUPERVISOR = """
import glob, os
inodes = {line.split()[6] for line in open("/proc/net/unix") if "/until/reserved-" in line}
for fd in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(fd)[8:-1] in inodes:
            os.kill(int(fd.split("/")[2]), 9)
    except OSError:
        pass
"""


def queue(launcher: Launcher) -> Any:
    done = launcher.call("queue", "-i", str(launcher.inventory), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def statuses(launcher: Launcher) -> dict[str, str]:
    runs = json.loads(launcher.call("ls", "--json").stdout)
    return {one["run"]: one["status"] for one in runs}


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_reserved_gpus_are_held_until_they_are_given_back(
    own: labs.Lab, launcher: Launcher
) -> None:
    """Another user is told who has them and until when; a power cut leaves nothing of it."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    inventory = ("-i", str(launcher.inventory))
    (launcher.work / "large.bin").write_bytes(b"x" * 100_000)
    made = launcher.call("reserve", "gpu1", "--gpus", "3", "--for", "4h", *inventory)
    assert made.returncode == 0, made.stderr
    found = re.search(
        r"(reserved-\w+) holds until .*:\n  gpu1 GPU 0-2  CUDA_VISIBLE_DEVICES=0,1,2\n", made.stderr
    )
    assert found, made.stderr
    name = found[1]
    assert statuses(launcher)[name] == "running"
    (holding,) = queue(launcher)["holding"]
    assert (holding["run"], holding["gpus"]) == (name, {"gpu1": [0, 1, 2]})
    assert holding["until"] - time.time() == pytest.approx(4 * 3600, abs=120)
    other = user(own, launcher, "u2")
    refused = other.run("--hosts", "gpu1", "--gpus", "2", "--framework", "env", "true")
    assert refused.code == 75
    assert f"in use by root ({name})" in refused.err
    shown = other.call("top", "-i", str(other.inventory), "--once").stdout
    assert re.search(rf"gpu1 +0-2 .* root {name} \(\d+ (s|min), until ", shown), shown
    host = own.hosts["gpu1"]
    assert not host.exists(f"/root/.launcher/host/runs/{name}/code/large.bin")
    ended = launcher.call("stop", name)
    assert ended.returncode == 0, ended.stderr
    assert queue(launcher)["free"] == 8
    again = launcher.call("reserve", "gpu1", "--gpus", "4", "--for", "4h", "--json", *inventory)
    assert json.loads(again.stdout)["run"].startswith("reserved-"), again.stderr
    host.power_cut()
    host.boot()
    assert queue(launcher)["free"] == 8


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_reservation_begins_and_ends_at_its_time(own: labs.Lab, launcher: Launcher) -> None:
    """Where its supervisor is killed, its GPUs are free at once, and the next look ends its process."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    inventory = ("-i", str(launcher.inventory))
    ahead = datetime.now() + timedelta(hours=2)
    at = f"{ahead:%Y-%m-%d %H:%M}"
    brief = launcher.call("reserve", "--gpus", "8", "--for", "10s", "--name", "brief", *inventory)
    assert brief.returncode == 0, brief.stderr
    later = launcher.call(
        "reserve", "--gpus", "1", "--for", "1h", "--at", at, "--name", "later", *inventory
    )
    assert later.returncode == 0, later.stderr
    assert "waits for its time" in later.stderr
    (name,) = [one for one in statuses(launcher) if one.startswith("reserved-later-")]
    assert statuses(launcher)[name] == "waiting"
    assert re.search(r"begins at .*\d\d:\d\d at the earliest", launcher.call("show", name).stdout)
    assert launcher.call("stop", name).returncode in (0, 130)
    labs.wait_until(
        lambda: {s for n, s in statuses(launcher).items() if "brief" in n} == {"succeeded"},
        "its end",
        60,
    )
    assert queue(launcher)["free"] == 8
    killed = launcher.call("reserve", "gpu1", "--gpus", "4", "--for", "1h", *inventory)
    assert killed.returncode == 0, killed.stderr
    host = own.hosts["gpu1"]
    host.run("python3", "-c", KILL_SUPERVISOR)
    labs.wait_until(lambda: queue(launcher)["free"] == 8, "free GPUs", 60)
    labs.wait_until(
        lambda: not [one for one in host.processes() if "sleep 3600" in str(one)],
        "nothing left",
        60,
    )


def user(lab: labs.Lab, launcher: Launcher, name: str) -> Launcher:
    """Return the command of another account of gpu1."""
    host = lab.hosts["gpu1"]
    host.add_user(name, "not needed")
    host.let_in(name, lab.identity_file.with_suffix(".pub").read_bytes())
    folder: Path = launcher.work / name
    folder.mkdir()
    text = launcher.inventory.read_text().replace("user: root", f"user: {name}")
    (folder / "hosts.yaml").write_text(text.replace('"python3"', '"/usr/bin/python3"'))
    return Launcher(folder / "hosts.yaml", folder, folder / "home")
