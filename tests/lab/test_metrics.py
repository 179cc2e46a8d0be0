"""What hosts measure while a run goes on. nvidia-smi is a fake."""

from __future__ import annotations

import json
import re

import pytest

from support import gpu_tools
from support import lab as labs
from support.command import Launcher, kill_follower, of_runs
from support.terminal import Terminal

HOSTS = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("cpu1"))
#: Until the host has written what it measured.
TRAIN = """
import os, pathlib, time
metrics = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"]).parent / "metrics.jsonl"
until = time.monotonic() + 60
while time.monotonic() < until and not (metrics.exists() and b"gpus" in metrics.read_bytes()):
    time.sleep(0.05)
print("measured", flush=True)
"""


@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_a_run_tells_how_busy_its_hosts_were(own: labs.Lab, launcher: Launcher) -> None:
    """Also where its launcher is killed meanwhile; and the tool that watches GPUs is gone at the end."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    host = own.hosts["gpu1"]
    host.write(gpu_tools.LOAD, b"0, 90, 60, 500\n1, 0, 30, 0\n")
    words = ("--hosts", "gpu1", "--gpus", "2", "--framework", "env", "--detach")
    left = launcher.run(*words, f"python3 {launcher.script(TRAIN)}")
    assert left.code == 0, left.err
    labs.wait_until(lambda: _tools(host), "the tool that watches GPUs", 30)
    kill_follower(left.folder)
    ended = launcher.call("attach", "-")
    assert ended.returncode == 0, ended.stderr
    assert "measured" in ended.stdout
    assert re.search(r"gpus +45 % busy on average, at most 524\.3 MB in use on one, ", ended.stderr)
    assert not of_runs(host)
    labs.wait_until(lambda: not _tools(host), "the end of that tool", 10)
    (file,) = (left.folder / "metrics").iterdir()
    assert file.name == "gpu1.jsonl"
    there = f"/root/.launcher/host/runs/{left.folder.name}/metrics.jsonl"
    assert file.read_bytes() == host.read(there)
    use = json.loads((left.folder / "use.json").read_text())["gpu1"]
    assert "use" not in json.loads((left.folder / "receipt.json").read_text()), "0.1 refuses it"
    receipt = json.loads(launcher.call("show", "-", "--json").stdout)["receipt"]
    assert receipt["use"]["gpu1"] == use
    assert (use["gpus"]["0"]["percent"], use["gpus"]["1"]["idle"]) == (90.0, 1.0)
    assert 0 <= use["cpu"] <= 100
    assert 0 < use["memory"] < use["memory_total"]
    told = json.loads(launcher.call("metrics", "-", "--json").stdout)["hosts"]["gpu1"]
    assert told["samples"][-1]["gpus"]["0"] == {
        "percent": 90.0,
        "memory": 500.0,
        "watts": 75.5,
        "celsius": 60.0,
    }
    argv = [*launcher.argv()[:3], "metrics", left.folder.name]
    with Terminal(argv, launcher.work, launcher.environment(), columns=80) as screen:
        screen.expect("45 %")
        assert screen.end() == 0


def _tools(host: labs.LabHost) -> list[labs.Process]:
    return [one for one in host.processes() if gpu_tools.LOAD in " ".join(one.argv)]
