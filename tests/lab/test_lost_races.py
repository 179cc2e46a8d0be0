"""A run whose turn it was, and which was too late: it waits with its hosts, as all others do that they can
start, whatever becomes of its launcher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, kill_follower
from support.waiting import LONG_SETUP, MEETING, TAKE, Queue

TWO = (labs.HostSpec("gpu1", gpus=2), labs.HostSpec("gpu2", gpus=2))
THREE = (*TWO, labs.HostSpec("gpu3", gpus=0))
PROJECTS = "projects:\n  team-a: {quota: 2, users: [root]}\n"


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    made = Queue(own, launcher)
    launcher.inventory.write_text(launcher.inventory.read_text() + PROJECTS)
    try:
        yield made
    finally:
        made.close()


def in_setup(queue: Queue, name: str, *words: str, command: str = MEETING) -> Path:
    """Start a run whose setup is under way on its hosts, with its GPUs still to be locked; return its
    folder."""
    setup = LONG_SETUP.replace("in-setup", f"in-{name}")
    queue.start(name, *words, "--setup", setup, command=command)
    queue.until(name, "HostConnected")
    (folder,) = queue.launcher.home.glob(f"runs/{name}-*")
    labs.wait_until(lambda: any(hosts_in_setup(queue, name)), "its setup", 60)
    return folder


def hosts_in_setup(queue: Queue, name: str) -> list[labs.LabHost]:
    return [host for host in queue.lab.hosts.values() if host.exists(f"/tmp/in-{name}")]


def take(host: labs.LabHost) -> int:
    """Take a GPU without waiting for a turn; return the process."""
    host.write("/tmp/take.py", TAKE)
    pid = host.spawn("python3", "/tmp/take.py")
    labs.wait_until(lambda: host.exists("/tmp/taken"), "the lock", 60)
    return pid


def waits_by_itself(queue: Queue, folder: Path) -> bool:
    """Return whether the run waits, and its hosts start it."""
    shown = json.loads(queue.call("--json").stdout)["waiting"]
    return [(one["run"], one["by_itself"]) for one in shown] == [(folder.name, True)]


@pytest.mark.parametrize("own", [TWO], indirect=True)
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--hosts", "gpu2", "--gpus", "2"), id="one host"),
        pytest.param(("--gpus", "4"), id="two hosts"),
        pytest.param(("--gpus", "3"), id="unequal parts"),
    ],
)
def test_who_was_too_late_for_a_gpu_needs_no_launcher(queue: Queue, words: tuple[str, ...]) -> None:
    folder = in_setup(queue, "late", *words)
    takers = {host: take(host) for host in queue.lab.hosts.values()}
    queue.let_go("setup-go")
    queue.until("late", "RunWaits")
    labs.wait_until(lambda: waits_by_itself(queue, folder), "its hosts start it", 60)
    kill_follower(folder)
    for host, taker in takers.items():
        host.run("kill", "-9", str(taker))
    queue.until_there("gpu2", folder.name, "BegunThere")
    attached = queue.launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    assert json.loads((folder / "receipt.json").read_text())["status"] == "succeeded"


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_who_was_too_late_for_a_quota_needs_no_launcher(queue: Queue) -> None:
    words = ("--project", "team-a", "--gpus", "2")
    folders = {
        name: in_setup(queue, name, *words, "--hosts", host, command=f"python3 hold.py {name}")
        for name, host in (("one", "gpu1"), ("other", "gpu2"))
    }
    queue.let_go("setup-go")
    labs.wait_until(
        lambda: any(waits_by_itself(queue, one) for one in folders.values()), "one waits", 60
    )
    late = next(name for name, folder in folders.items() if waits_by_itself(queue, folder))
    kill_follower(folders[late])
    queue.let_go(*folders)
    attached = queue.launcher.call("attach", folders[late].name)
    assert attached.returncode == 0, attached.stderr
    assert json.loads((folders[late] / "receipt.json").read_text())["status"] == "succeeded"
