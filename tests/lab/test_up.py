"""A cluster that is kept: up when all have joined, and gone after `launcher stop`. Dask is a stand-in here;
tests/frameworks has the real one."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import Launcher

STAND_IN = {
    "__init__.py": """
class Client:
    def __init__(self, address, timeout):
        pass
    def wait_for_workers(self, count):
        import os, sys, time
        if os.environ.get("NOBODY_JOINS"):
            sys.exit("nobody joins")
""",
    "cli/__init__.py": "",
    "cli/dask_scheduler.py": "import time; time.sleep(600)",
    "cli/dask_worker.py": "import time; time.sleep(600)",
}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Launcher]:
    """Two embedded hosts whose Python has a stand-in for Dask."""
    for name, text in STAND_IN.items():
        file = tmp_path / "site" / "distributed" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    inventory = work / "inventory.yaml"
    path = json.dumps({"PYTHONPATH": str(tmp_path / "site")})
    inventory.write_text(f"sandbox: true\nhosts: ['local[1-2]']\ndefaults: {{env: {path}}}\n")
    command = Launcher(inventory, work, tmp_path / "home")
    assert command.call("sandbox", "up", "2").returncode == 0
    yield command
    assert command.call("sandbox", "down").returncode == 0


def test_it_is_kept_until_it_is_stopped(user: Launcher) -> None:
    words = ("--framework", "dask", "--nodes", "2", "--nproc-per-node", "1", "--json")
    up = user.call("up", *words, "-e", "COLOUR=blue", "--setup", "touch set-up")
    assert up.returncode == 0, up.stderr
    name = json.loads(up.stdout)["run"]
    assert name.startswith("dask-")
    shown = [line for line in up.stderr.splitlines() if not line.startswith("master ")][-4:]
    assert shown[0] == "dask: 2 hosts have joined"
    assert shown[1].startswith("  DASK_SCHEDULER_ADDRESS=tcp://")
    assert shown[2].startswith(f"  dashboard: launcher forward {name} ")
    assert shown[3] == f"  stop: launcher stop {name}"
    port = shown[2].rpartition(" ")[2]
    tunnel = user.start_command("tunnel", name)
    assert tunnel.stderr is not None
    assert f" leads to port {port} of local1; " in tunnel.stderr.readline().decode()
    tunnel.send_signal(signal.SIGINT)
    tunnel.communicate(timeout=30)
    there = user.call("exec", "--node", "0", name, "--", "sh", "-c", "echo $COLOUR; ls set-up")
    assert "blue" in there.stdout and "set-up" in there.stdout, there.stderr
    (listed,) = json.loads(user.call("ls", "--json").stdout)
    assert listed["status"] == "running"
    stopped = user.call("stop", name, "--json")
    receipt = json.loads(stopped.stdout)
    assert receipt["status"] == "stopped"
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    gone = user.call("tunnel", name, timeout=60)
    assert (gone.returncode, "and its dashboard with it" in gone.stderr) == (2, True), gone.stderr

    user.inventory.write_text(user.inventory.read_text().replace('"}', '", "NOBODY_JOINS": "1"}'))
    failed = user.call("up", "--framework", "dask", "--nodes", "2", "--nproc-per-node", "1")
    assert failed.returncode == 70, failed.stderr
    assert "dask did not come up: it cannot be asked who has joined" in failed.stderr
    none = user.call("forward", "-")
    assert (none.returncode, "has no dashboard" in none.stderr) == (2, True), none.stderr
