"""A run of a project is started by its hosts, with nobody in touch: most hosts of the inventory decide,
also those that the run does not wait on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import KILL_HOLDER, Queue

PROJECTS = """
projects:
  team-a: {quota: 2, limit: 4, users: [root]}
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


def waits_behind_another(queue: Queue) -> Path:
    """Have "second", of the project, wait for GPUs of "first", with nobody in touch; return its folder."""
    queue.start("first", "--gpus", "2")
    queue.until("first", "AllStarted")
    return queue.detached(
        "second", "--gpus", "2", "--project", "team-a", where="gpu1, which starts it"
    )


def witnesses(queue: Queue, host: str) -> list[str]:
    """Return the names of the sockets of witnesses on a host."""
    lines = queue.sockets(host).splitlines()
    return [line.partition("@launcher/")[2] for line in lines if "/witness/" in line]


def until_each_has_a_witness(queue: Queue, hosts: tuple[str, ...]) -> None:
    """Wait until one process decides about one run on each of these: most of them may do so before."""
    labs.wait_until(
        lambda: all(len(witnesses(queue, host)) == 1 for host in hosts),
        "all have their witness",
        60,
    )


def waiting(queue: Queue) -> dict[str, dict[str, object]]:
    """Return who waits, by the first word of the name."""
    shown = json.loads(queue.call("--json").stdout)["waiting"]
    return {one["run"].partition("-")[0]: one for one in shown}


@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_one_host_starts_it_with_nobody_in_touch(queue: Queue) -> None:
    """The launcher is killed, and its machine cut off. Nothing is left on the hosts that only decided."""
    folder = waits_behind_another(queue)
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


THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2) for n in (1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_choice_of_hosts_and_all_of_them_start_it(queue: Queue) -> None:
    """In its turn, and never beyond the quota: the second run of the project waits for the first."""
    queue.occupy(queue.lab.hosts)
    of_team = ("--project", "team-a", "--gpus", "2")
    one = queue.detached(
        "one", *of_team, where="one of gpu[1-3]; whichever is free first starts it",
        command="python3 hold.py one",
    )  # fmt: skip
    two = queue.detached(
        "two", *of_team, "--nodes", "2", "--hosts", "gpu2,gpu3", where="gpu[2-3], which start it together",
    )  # fmt: skip
    assert {name: one["by_itself"] for name, one in waiting(queue).items()} == {
        "one": True,
        "two": True,
    }
    assert "its hosts" in queue.call().stdout
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("on-gpu3")
    assert queue.until_there("gpu3", one.name, "BegunThere")["hosts"] == ["gpu3"]
    queue.let_go("on-gpu1", "on-gpu2")
    for host in queue.lab.hosts.values():
        host.unblock()
    labs.wait_until(lambda: waiting(queue)["two"]["why"] == "quota", "the quota holds it back", 60)
    assert waiting(queue)["two"]["place"] is None
    queue.let_go("one")
    assert queue.until_there("gpu2", two.name, "BegunThere")["hosts"] == ["gpu2", "gpu3"]
    for name, met in (("one", 0), ("two", 1)):
        attached = queue.launcher.call("attach", name)
        assert (attached.returncode, attached.stdout.count("met")) == (0, met), attached.stderr
    for host in queue.lab.hosts:
        assert not witnesses(queue, host)
    assert not queue.recorded("gpu1", two.name), "it only decided"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_with_too_few_hosts_it_waits_and_says_so(queue: Queue) -> None:
    """It begins once they are back, though nobody follows it."""
    folder = waits_behind_another(queue)
    for name in ("gpu2", "gpu3"):
        queue.lab.hosts["gpu1"].drop_packets(name)
    labs.wait_until(
        lambda: waiting(queue)["second"]["why"] == "no-majority", "it has no majority", 90
    )
    assert "gpu[2-3] cannot be reached" in queue.call().stdout
    third = queue.start("third", "--gpus", "2", command="true")
    queue.until("third", "RunWaits")
    queue.let_go("first")
    assert third.wait(60) == 0, "it holds nobody back"
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    queue.lab.hosts["gpu1"].unblock()
    assert queue.until_there("gpu1", folder.name, "BegunThere")["hosts"] == ["gpu1"]
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr


@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_who_attaches_replaces_witnesses_and_who_stops_it_ends_them(queue: Queue) -> None:
    waits_behind_another(queue)
    for host in ("gpu2", "gpu3"):
        queue.lab.hosts[host].run("python3", "-c", KILL_HOLDER, "witness/second-")
    labs.wait_until(
        lambda: waiting(queue)["second"]["why"] == "no-majority", "it has no majority", 60
    )
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: waiting(queue)["second"]["why"] == "busy", "they decide again", 60)
    until_each_has_a_witness(queue, ("gpu2", "gpu3"))
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_HOLDER, "wait/second-")
    labs.wait_until(lambda: "wait/second-" in queue.sockets("gpu1"), "it waits again", 60)
    labs.wait_until(lambda: waiting(queue)["second"]["why"] == "busy", "and they decide", 60)
    until_each_has_a_witness(queue, ("gpu2", "gpu3"))
    stopped = queue.launcher.call("stop", "--grace", "0", "second")
    assert stopped.returncode == 0, stopped.stderr
    assert not [one for host in queue.lab.hosts for one in witnesses(queue, host)]
    told = [one for one in queue.events("second") if one.get("why") == "no-majority"]
    assert [one["hosts"] for one in told[:1]] in ([], [["gpu2", "gpu3"]])
    assert "of/team-a" not in queue.sockets("gpu1")


#: Holds the name that locks a project, for the account of this number.
HOLD_LOCK = """
import os, socket, sys, time
os.setuid(int(sys.argv[1]))
taken = socket.socket(socket.AF_UNIX)
taken.bind("\\0launcher/project/team-a")
taken.listen()
time.sleep(1000)
"""


#: The account of the runs, and one that no project has.
ROOT, STRANGER = 0, 12345


def is_locked(queue: Queue, host: str) -> bool:
    """Return whether somebody decides about the project there."""
    return "@launcher/project/team-a" in queue.sockets(host)


def lock_project(queue: Queue, host: str, uid: int) -> None:
    """Hold the lock of the project on a host until its holder is killed."""
    queue.lab.hosts[host].spawn("python3", "-c", HOLD_LOCK, str(uid))
    labs.wait_until(lambda: is_locked(queue, host), f"the project is locked on {host}", 20)


@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_with_too_few_hosts_that_can_lock_it_waits_and_says_so(queue: Queue) -> None:
    """It holds nobody back, and begins once they can."""
    folder = waits_behind_another(queue)
    for name in ("gpu2", "gpu3"):
        lock_project(queue, name, STRANGER)
    third = queue.start("third", "--gpus", "2", command="true")
    queue.until("third", "RunWaits")
    queue.let_go("first")
    assert third.wait(60) == 0, "it holds nobody back"
    assert waiting(queue)["second"]["why"] == "no-majority"
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    for name in ("gpu2", "gpu3"):
        queue.lab.hosts[name].run("python3", "-c", KILL_HOLDER, "project/team-a")
    queue.until_there("gpu1", folder.name, "BegunThere")


BORROWED = """
projects:
  team-a: {quota: 0, limit: 4, users: [root], min_runtime: 1h}
  team-b: {quota: 2, users: [root]}
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_run_that_nobody_leads_takes_no_gpus_back(queue: Queue) -> None:
    """It could not begin with them. Once it can, it asks again."""
    text = queue.launcher.inventory.read_text()
    queue.launcher.inventory.write_text(text.replace(PROJECTS, BORROWED))
    queue.start("victim", "--gpus", "2", "--hosts", "gpu2", "--project", "team-a", "--preemptible")
    queue.until("victim", "AllStarted")
    queue.detached(
        "taker", "--gpus", "2", "--nodes", "2", "--hosts", "gpu1,gpu2", "--project", "team-b",
        where="gpu[1-2], which start it together",
    )  # fmt: skip
    labs.wait_until(lambda: "take/victim" in queue.sockets("gpu2"), "it asks for them", 30)
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_HOLDER, "wait/taker-")
    labs.wait_until(lambda: "take/victim" not in queue.sockets("gpu2"), "it asks no more", 30)
    assert "of/team-b/taker" in queue.sockets("gpu2"), "it still waits there"
    attached = queue.launcher.start_command("attach", "taker")
    queue.started.append(attached)
    labs.wait_until(lambda: "take/victim" in queue.sockets("gpu2"), "somebody leads it again", 60)


@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_who_stops_or_removes_a_run_that_nobody_leads_ends_its_witnesses(queue: Queue) -> None:
    """Those on hosts that answer at the end, and the others when the run is removed."""
    waits_behind_another(queue)
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_HOLDER, "wait/second-")
    queue.lab.hosts["gpu3"].drop_packets()
    queue.launcher.call("stop", "--grace", "0", "second")
    assert [len(witnesses(queue, host)) for host in ("gpu2", "gpu3")] == [0, 1]
    queue.lab.hosts["gpu3"].unblock()
    removed = queue.launcher.call("rm", "second")
    assert removed.returncode == 0, removed.stderr
    assert not witnesses(queue, "gpu3")


@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_another_machine_takes_it_up(queue: Queue, tmp_path: Path) -> None:
    """While it waits, and once it has begun."""
    queue.start("first", "--gpus", "2")
    queue.until("first", "AllStarted")
    folder = queue.detached(
        "second", "--gpus", "2", "--project", "team-a", where="gpu1, which starts it",
        command="python3 hold.py second",
    )  # fmt: skip
    words = ("attach", "-i", str(queue.launcher.inventory), folder.name)
    for number, event in enumerate(("RunWaits", "ProcessStarted")):
        elsewhere = replace(queue.launcher, home=tmp_path / f"elsewhere-{number}")
        if event == "ProcessStarted":
            queue.let_go("first")
            queue.until_there("gpu1", folder.name, "BegunThere")
        attached = elsewhere.start_command(*words)
        queue.started.append(attached)
        file = elsewhere.home / "runs" / folder.name / "events.jsonl"
        labs.wait_until(
            lambda file=file, event=event: file.exists() and f'"{event}"' in file.read_text(),
            f"{event} is known",
            60,
        )
        if event == "RunWaits":
            attached.kill()
            attached.communicate()
    queue.let_go("second")
    out, err = attached.communicate(timeout=60)
    assert (attached.returncode, b"has 0,1" in out) == (0, True), err
    assert not witnesses(queue, "gpu2")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_launcher_and_hosts_that_decide_at_once_agree(queue: Queue) -> None:
    """Of runs that wait for the same quota, each begins in turn: some are left to hosts, and some have too
    few ports for that."""
    queue.start("first", "--gpus", "2", "--hosts", "gpu1", "--project", "team-a")
    queue.until("first", "AllStarted")
    few = ("--master-port", "29500-29505")
    runs = [
        queue.start(
            f"run{n}", "--gpus", "2", "--nodes", "1", "--project", "team-a",
            *(few if n % 2 else ()), command="true",
        )
        for n in range(4)
    ]  # fmt: skip
    for n in range(4):
        queue.until(f"run{n}", "RunWaits")
    for n in (0, 2):
        queue.until_met(f"run{n}", everywhere=True)
    by_itself = {name: one["by_itself"] for name, one in waiting(queue).items()}
    assert by_itself == {"run0": True, "run1": False, "run2": True, "run3": False}
    queue.let_go("first")
    assert [run.wait(120) for run in runs] == [0] * 4
    spans = []
    for n in range(4):
        found = {one["event"]: one["time"] for one in queue.events(f"run{n}")}
        spans.append((found["ProcessStarted"], found["ProcessExited"]))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), spans


#: Leaves no room for a book.
FILL = "mount -t tmpfs -o size=64k none /var/tmp; cat /dev/zero >/var/tmp/ballast 2>/dev/null; true"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_with_too_few_disks_that_can_keep_it_it_waits_and_says_so(queue: Queue) -> None:
    """What most hosts have not written down does not count for the next decision."""
    queue.start("first", "--gpus", "2")
    queue.until("first", "AllStarted")
    folder = queue.detached(
        "second", "--gpus", "2", "--project", "team-a", where="gpu1, which starts it"
    )
    for name in ("gpu2", "gpu3"):
        queue.lab.hosts[name].run("sh", "-c", FILL)
    queue.let_go("first")
    labs.wait_until(
        lambda: waiting(queue)["second"]["why"] == "no-majority", "it has no majority", 60
    )
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    third = queue.start("third", "--gpus", "2", command="true")
    assert third.wait(60) == 0, "it holds nobody back"
    queue.lab.hosts["gpu2"].run("rm", "/var/tmp/ballast")
    assert queue.until_there("gpu1", folder.name, "BegunThere")["hosts"] == ["gpu1"]
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_host_that_is_cut_off_in_the_middle_of_a_decision_ends_only_that(queue: Queue) -> None:
    """It is still in touch as far as anybody knows, and does not show that the run uses its GPUs."""
    queue.occupy(("gpu1", "gpu2"))
    text = queue.launcher.inventory.read_text()
    queue.launcher.inventory.write_text(text.replace("quota: 2", "quota: 4"))
    folder = queue.detached(
        "second", "--gpus", "4", "--nodes", "2", "--hosts", "gpu1,gpu2", "--project", "team-a",
        where="gpu[1-2], which start it together",
    )  # fmt: skip
    lock_project(queue, "gpu3", ROOT)  # somebody else decides there: the decision waits for that
    queue.let_go("on-gpu1", "on-gpu2")
    labs.wait_until(lambda: is_locked(queue, "gpu2"), "it is in the middle of a decision", 60)
    queue.lab.hosts["gpu1"].drop_packets("gpu2")
    queue.lab.hosts["gpu3"].run("python3", "-c", KILL_HOLDER, "project/team-a")
    labs.wait_until(
        lambda: waiting(queue)["second"]["why"] == "no-majority", "the decision failed", 60
    )
    queue.lab.hosts["gpu1"].unblock()
    for host in ("gpu1", "gpu2"):
        assert queue.until_there(host, folder.name, "BegunThere")["hosts"] == ["gpu1", "gpu2"]
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
