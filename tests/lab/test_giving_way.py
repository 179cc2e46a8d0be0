"""Something breaks while a run gives its GPUs back, or waits again, with nobody in touch."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support import lab as labs
from support.borrowing import COUNTS, OWNS, PROJECTS, TWO_OF_THREE, borrower, until_attempt
from support.command import Launcher
from support.waiting import Queue


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Hosts with projects, of which one lends to the other."""
    made = Queue(own, launcher)
    launcher.inventory.write_text(launcher.inventory.read_text() + PROJECTS)
    launcher.script(COUNTS, "counts.py")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["saving", "saved"])
@pytest.mark.parametrize("cut", ["gpu1", "gpu2"], ids=["leader", "other"])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_a_host_loses_power_as_it_gives_way(queue: Queue, cut: str, moment: str) -> None:
    """It boots again, and who attaches lets the run continue."""
    folder = borrower(queue, "--gpus", "4")
    other = "gpu2" if cut == "gpu1" else "gpu1"
    for host in ("gpu1", "gpu2"):
        until_attempt(queue, host, folder.name, 0)
    if moment == "saving":
        queue.lab.hosts[cut].write("/tmp/saves-long", b"")
    queue.start("owner", "--gpus", "2", "--hosts", other, *OWNS)
    if moment == "saving":
        queue.until_there(cut, folder.name, "StopRequested")
    else:
        queue.until_there(cut, folder.name, "WaitsAgain")
    queue.lab.hosts[cut].power_cut()
    queue.until_there(other, folder.name, "WaitsAgain")
    queue.lab.hosts[cut].boot()
    attached = queue.launcher.start_command("attach", folder.name)
    queue.started.append(attached)
    queue.let_go("owner")
    try:
        for host in ("gpu1", "gpu2"):
            until_attempt(queue, host, folder.name, 1)
    finally:
        for host in ("gpu1", "gpu2"):
            pass
        print("\n".join("%.2f %s" % (one["time"], json.dumps(one)[:300]) for one in queue.events("lonely")))
        attached.kill()
        print(attached.communicate()[1].decode())
    queue.let_go("lonely")
    again = queue.launcher.call("attach", folder.name)
    assert again.returncode == 0, again.stderr
