"""A run that borrowed, and gave its GPUs back with nobody in touch, waits again and continues where it was:
its hosts take it back into the queue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.borrowing import (
    BORROWS,
    ONE_OF_THREE,
    OWNS,
    TWO_OF_THREE,
    borrower,
    lending,
    until_attempt,
    witnesses,
)
from support.command import Launcher, kill_follower
from support.waiting import KILL_HOLDER, Queue


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    with lending(own, launcher) as made:
        yield made


@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_its_host_takes_it_back_and_continues_it(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "2", "--time", "1h")
    until_attempt(queue, "gpu1", folder.name, 0)
    queue.start("owner", "--gpus", "2", *OWNS, command="true")
    assert queue.until_there("gpu1", folder.name, "WaitsAgain")["hosts"] == ["gpu1"]
    until_attempt(queue, "gpu1", folder.name, 1)
    queue.let_go("lonely")
    attached = queue.launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    assert "from step 7 attempt 1" in attached.stdout
    assert "waits again on gpu1 for GPUs, to continue where it was" in attached.stderr


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_one_host_takes_it_back_as_often_as_it_has_to(queue: Queue) -> None:
    """It has its old place, and what it wrote. Nothing is left of who decided with it."""
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    for attempt in (1, 2):
        queue.start(f"owner{attempt}", "--gpus", "2", *OWNS)
        queue.until(f"owner{attempt}", "AllStarted")
        later = queue.start(f"later{attempt}", "--gpus", "2", *BORROWS, command="true")
        queue.until(f"later{attempt}", "RunWaits")
        labs.wait_until(
            lambda attempt=attempt: queue.order() == ["lonely", f"later{attempt}"],
            "its old place",
            60,
        )
        queue.until_met("lonely", everywhere=True)
        assert "its host " in queue.call().stdout
        queue.let_go(f"owner{attempt}")
        until_attempt(queue, "gpu1", folder.name, attempt)
        later.kill()
        later.communicate()
        queue.launcher.call("stop", f"later{attempt}")
    there = [one for one in queue.journal("gpu1", folder.name) if one["event"] == "WaitsAgain"]
    assert [(one["attempt"], one["hosts"]) for one in there] == [(1, ["gpu1"]), (2, ["gpu1"])]
    queue.let_go("lonely")
    labs.wait_until(lambda: not witnesses(queue, "lonely"), "nobody decides about it any more", 60)
    attached = queue.launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    for attempt in (1, 2):
        assert f"from step {7 * attempt} attempt {attempt}" in attached.stdout
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["status"] == "succeeded", receipt
    assert "waits again on gpu1" in attached.stderr


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_hosts_that_began_it_by_themselves_take_it_back(queue: Queue, tmp_path: Path) -> None:
    """Nobody has been in touch since it began to wait; one of two hosts is wanted back. Another machine
    takes it up."""
    queue.occupy(("gpu1", "gpu2"))
    folder = queue.detached(
        "lonely", *BORROWS, "--gpus", "4", where="gpu[1-2], which start it together",
        command="python3 counts.py lonely",
    )  # fmt: skip
    queue.let_go("on-gpu1", "on-gpu2")
    for host in ("gpu1", "gpu2"):
        until_attempt(queue, host, folder.name, 0)
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    queue.until("owner", "AllStarted")
    for host in ("gpu1", "gpu2"):
        queue.until_there(host, folder.name, "WaitsAgain")
    labs.wait_until(lambda: queue.order() == ["lonely"], "it waits again", 60)
    queue.let_go("owner")
    for host in ("gpu1", "gpu2"):
        until_attempt(queue, host, folder.name, 1)
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    attached = elsewhere.start_command("attach", "-i", str(queue.launcher.inventory), folder.name)
    queue.started.append(attached)
    file = elsewhere.home / "runs" / folder.name / "events.jsonl"
    labs.wait_until(
        lambda: file.exists() and '"ProcessStarted"' in file.read_text(), "it is taken up", 60
    )
    queue.let_go("lonely")
    out, err = attached.communicate(timeout=60)
    assert attached.returncode == 0, err
    assert b"from step 0 attempt 0" in out
    assert b"from step 7 attempt 1" in out
    for host in ("gpu1", "gpu2"):
        begun = [one for one in queue.journal(host, folder.name) if one["event"] == "BegunThere"]
        assert [one["attempt"] for one in begun] == [0, 1]


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("killed", ["gpu1", "gpu2"], ids=["leader", "other"])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_whatever_is_killed_who_attaches_continues_it(queue: Queue, killed: str) -> None:
    """Its launcher while it waits again, and then one of its hosts."""
    words = ("--gpus", "4", *BORROWS)
    queue.start("lonely", *words, command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    labs.wait_until(
        lambda: witnesses(queue, "lonely") == ["gpu3"], "its hosts have all they need", 30
    )
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    for host in ("gpu1", "gpu2"):
        until_attempt(queue, host, folder.name, 0)
    queue.start("owner", "--gpus", "4", *OWNS)
    queue.until("owner", "AllStarted")
    queue.until("lonely", "WaitsAgain")
    kill_follower(folder)
    for host in ("gpu1", "gpu2"):
        queue.until_there(host, folder.name, "WaitsAgain")
    queue.until_met("lonely", everywhere=True)
    queue.lab.hosts[killed].run("python3", "-c", KILL_HOLDER, "wait/lonely-")
    attached = queue.launcher.start_command("attach", folder.name)
    queue.started.append(attached)
    labs.wait_until(lambda: "wait/lonely-" in queue.sockets(killed), "it waits there again", 60)
    queue.let_go("owner")
    for host in ("gpu1", "gpu2"):
        until_attempt(queue, host, folder.name, 1)
    queue.let_go("lonely")
    out, err = attached.communicate(timeout=60)
    assert attached.returncode == 0, err
    assert b"from step 7 attempt 1" in out
    logs = [*(folder / "logs" / "attempt-1").glob("*.out")]
    assert [log.read_text() for log in logs] == ["from step 7 attempt 1\n"] * 2
    assert not witnesses(queue, "lonely")


#: Kills the supervisor of a run as soon as its journal has an event.
KILL_AT = """
import json, os, sys, time
until = time.time() + 120
while True:
    lines = [json.loads(line) for line in open(sys.argv[1]) if line.endswith("\\n")]
    if sys.argv[2] in [one["event"] for one in lines]:
        break
    assert time.time() < until
os.kill([one["pid"] for one in lines if one["event"] == "SupervisorStarted"][-1], 9)
"""


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("event", ["HostEnded", "WaitsAgain"])
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_a_host_that_is_killed_as_it_gives_way_waits_again(queue: Queue, event: str) -> None:
    """Nobody has been in touch since it ran, so who attaches learns of all that from its journal."""
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    queue.start("owner", "--gpus", "2", *OWNS, command="true")
    journal = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_AT, journal, event)
    queue.let_go("lonely")
    attached = queue.launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    assert "from step 7 attempt 1" in attached.stdout


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_who_stops_it_while_it_waits_again_ends_it(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    queue.start("owner", "--gpus", "2", *OWNS)
    queue.until_there("gpu1", folder.name, "WaitsAgain")
    labs.wait_until(lambda: queue.order() == ["lonely"], "it waits again", 60)
    stopped = queue.launcher.call("stop", "--grace", "0", folder.name)
    assert stopped.returncode == 0, stopped.stderr
    assert queue.order() == []
    assert not witnesses(queue, "lonely")
    assert "wait/lonely" not in queue.sockets("gpu1")
    assert json.loads((folder / "receipt.json").read_text())["status"] == "stopped"


@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_nobody_decides_any_more_about_a_run_whose_host_was_lost(queue: Queue) -> None:
    """The host that leads cannot tell them, as its supervisor has died."""
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_HOLDER, "gpu/0/lonely-")
    attached = queue.launcher.call("attach", folder.name)
    assert "lost (supervisor-died)" in attached.stderr, attached.stderr
    assert not witnesses(queue, "lonely")


THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2) for n in (1, 2, 3))


def begun_on_gpu3(queue: Queue) -> Path:
    """A run that has chosen gpu3 with nobody in touch, which does not lead; return its folder."""
    queue.occupy(queue.lab.hosts)
    folder = queue.detached(
        "lonely", *BORROWS, "--gpus", "2",
        where="one of gpu[1-3]; whichever is free first starts it",
        command="python3 counts.py lonely",
    )  # fmt: skip
    queue.let_go("on-gpu3")
    until_attempt(queue, "gpu3", folder.name, 0)
    labs.wait_until(
        lambda: witnesses(queue, "lonely") == ["gpu1", "gpu2"], "the others decide with it", 60
    )
    return folder


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_the_host_that_it_chose_takes_it_back(queue: Queue) -> None:
    """Nobody has been in touch since it began to wait, and the host that led then has no part in it."""
    folder = begun_on_gpu3(queue)
    owner = queue.start("owner", "--gpus", "2", "--hosts", "gpu3", *OWNS)
    queue.until("owner", "AllStarted")
    assert queue.until_there("gpu3", folder.name, "WaitsAgain")["hosts"] == ["gpu3"]
    queue.until_met("lonely", everywhere=True)
    (line,) = (one for one in queue.call().stdout.splitlines() if " lonely-" in one)
    assert re.search(r" gpu3 .* its host ", line), "it waits on no other"
    queue.let_go("owner")
    assert owner.wait(60) == 0
    until_attempt(queue, "gpu3", folder.name, 1)
    queue.let_go("lonely")
    labs.wait_until(lambda: not witnesses(queue, "lonely"), "nobody decides about it any more", 60)
    attached = queue.launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    assert "from step 7 attempt 1" in attached.stdout
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]
    assert not queue.recorded("gpu1", folder.name)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_nobody_decides_any_more_once_the_chosen_host_is_done(queue: Queue) -> None:
    """It never gave its GPUs back: the host that it chose leads the others from its start on."""
    begun_on_gpu3(queue)
    there = queue.lab.hosts["gpu3"].address

    def lines() -> list[str]:
        hosts = [queue.lab.hosts[name] for name in ("gpu1", "gpu2")]
        return [host.run("ss", "-Htn").stdout.decode() for host in hosts]

    labs.wait_until(lambda: all(f"{there}:" in one for one in lines()), "they are led by gpu3", 30)
    queue.let_go("lonely")
    labs.wait_until(lambda: not witnesses(queue, "lonely"), "nobody decides about it any more", 60)
