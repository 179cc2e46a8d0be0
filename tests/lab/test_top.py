"""`launcher top`: what GPUs do, who holds them, who waits. nvidia-smi is a fake."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support import gpu_tools
from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal

HOSTS = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("gpu2", gpus=4), labs.HostSpec("gpu3"))
HOLD = (
    "import os, pathlib, sys, time\n"
    "print('has', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
    "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
)


@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_top_shows_who_does_what(own: labs.Lab, launcher: Launcher) -> None:
    """A run, a stranger's program, a waiting run, and a host that does not answer."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    own.hosts["gpu3"].power_cut()
    first = own.hosts["gpu1"]
    first.add_user("bob", "secret")
    pid = first.spawn("setpriv", "--reuid", "bob", "--clear-groups", "sleep", "1000")
    apps = f"{pid}, {first.spec.gpu_uuids[3]}, 40960\n"
    first.write(gpu_tools.APPS, apps.encode())
    options = ("--hosts", "gpu[1-2]", "--framework", "env", "--wait", "forever")
    hold = f"python3 {launcher.script(HOLD)}"
    running = launcher.start("--name", "holds", "--time", "1h", "--gpus", "2", *options, hold)
    waiting = None
    try:
        assert running.stdout
        assert running.stdout.readline()
        first.write(gpu_tools.LOAD, b"0, 97, 71, 60000\n1, 80, 64, 60000\n2, 0, 30, 9000\n")
        waiting = launcher.start("--name", "waits", "--gpus", "8", *options, "true")
        looked: dict[str, Any] = {}

        def waits() -> bool:
            done = launcher.call("top", "-i", str(launcher.inventory), "--json")
            assert done.returncode == 0, done.stderr
            looked.update(json.loads(done.stdout))
            return bool(looked["queue"]["waiting"])

        labs.wait_until(waits, "the waiting run", 60)
        hosts = {one["host"]: one for one in looked["hosts"]}
        gpus = hosts["gpu1"]["gpus"]
        assert [one["state"] for one in gpus] == ["held", "held", "left", "foreign"]
        assert (gpus[0]["percent"], gpus[0]["celsius"], gpus[0]["used"]) == (97, 71, 60000)
        assert (gpus[0]["user"], gpus[0]["run"].startswith("holds-")) == ("root", True)
        assert (gpus[3]["user"], gpus[3]["pid"], gpus[3]["used"]) == ("bob", pid, 40960)
        assert looked["time"] - gpus[3]["since"] < 3600
        assert hosts["gpu3"]["problem"] and not any(one["runs"] for one in looked["hosts"])
        shown = launcher.call("top", "-i", str(launcher.inventory), "--once")
        print(shown.stdout)
        assert shown.returncode == 0
        assert "3 hosts, 8 GPUs: 2 held (mean use 88%), 4 free, 1 used outside" in shown.stdout
        assert "memory held by no process" in shown.stdout
        assert "\x1b" not in shown.stdout
        with labs_terminal(launcher) as screen:
            screen.expect("80-97%")
            screen.expect("waits-")
            first.write(gpu_tools.LOAD, b"0, 12, 71, 60000\n1, 11, 64, 60000\n")
            screen.expect("11-12%")
            screen.press("q")
            assert screen.end() == 0
    finally:
        for host in ("gpu1", "gpu2"):
            own.hosts[host].write("/tmp/go", b"")
        for process in (running, waiting):
            if process:
                process.kill()
                process.communicate()


@pytest.mark.parametrize("own", [[labs.HostSpec("cpu1"), labs.HostSpec("cpu2")]], indirect=True)
def test_runs_without_gpus_are_shown(own: labs.Lab, launcher: Launcher) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    hold = f"python3 {launcher.script(HOLD)}"
    left = launcher.run("--name", "plain", "--nodes", "2", "--framework", "env", "--detach", hold)
    assert left.code == 0, left.err
    shown = launcher.call("top", "-i", str(launcher.inventory), "--once")
    for host in own.hosts.values():
        host.write("/tmp/go", b"")
    (line,) = [line for line in shown.stdout.splitlines() if left.folder.name in line]
    assert line.split()[:3] == ["cpu[1-2]", "root", left.folder.name]
    assert launcher.call("attach", "-").returncode == 0
    shown = launcher.call("top", "-i", str(launcher.inventory), "--once")
    assert left.folder.name not in shown.stdout


def labs_terminal(launcher: Launcher) -> Terminal:
    argv = launcher.argv()
    words = [*argv[:3], "top", "-i", str(launcher.inventory)]
    return Terminal(words, launcher.work, launcher.environment(), columns=120)
