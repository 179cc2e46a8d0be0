"""A run of a project is started by its hosts, with nobody in touch: most hosts of the inventory decide,
also those that the run does not wait on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import Queue

PROJECTS = """
projects:
  team-a: {quota: 2, limit: 4, users: [root]}
  team-b: {quota: 1, users: [root, u2], min_runtime: 0s}
"""
ONE_OF_THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2 if n == 1 else 0) for n in (1, 2, 3))


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Hosts with projects; runs are named for where they are."""
    made = Queue(own, launcher)
    launcher.inventory.write_text(launcher.inventory.read_text() + PROJECTS)
    try:
        yield made
    finally:
        made.close()


def witnesses(queue: Queue, host: str) -> list[str]:
    """Return the names of the sockets of witnesses on a host."""
    lines = queue.sockets(host).splitlines()
    return [line.partition("@launcher/")[2] for line in lines if "/witness/" in line]


def waiting(queue: Queue) -> dict[str, dict[str, object]]:
    """Return who waits, by the first word of the name."""
    shown = json.loads(queue.call("--json").stdout)["waiting"]
    return {one["run"].partition("-")[0]: one for one in shown}


@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_one_host_starts_it_with_nobody_in_touch(queue: Queue) -> None:
    """The launcher is killed, and its machine cut off. Nothing is left on the hosts that only decided."""
    queue.start("first", "--gpus", "2")
    queue.until("first", "AllStarted")
    folder = queue.detached(
        "second", "--gpus", "2", "--project", "team-a", where="gpu1, which starts it",
    )  # fmt: skip
    assert [len(witnesses(queue, host)) for host in ("gpu1", "gpu2", "gpu3")] == [0, 1, 1]
    shown = queue.call().stdout
    assert "its host " in shown, shown
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("first")
    begun = queue.until_there("gpu1", folder.name, "BegunThere")
    for host in ("gpu2", "gpu3"):
        labs.wait_until(lambda host=host: not witnesses(queue, host), f"{host} is let go", 30)
        there = queue.lab.hosts[host].run("ls", "-A", "/root/.launcher/host/runs", check=False)
        assert folder.name not in there.stdout.decode()
    for host in queue.lab.hosts.values():
        host.unblock()
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert "0 of 1 has" in attached.stdout
    assert json.loads((folder / "receipt.json").read_text())["status"] == "succeeded"
    assert begun["hosts"] == ["gpu1"]
