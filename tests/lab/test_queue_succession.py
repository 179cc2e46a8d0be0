"""A run that waits on hosts of which some suffice needs none of them to be up: another one leads it once
the first is gone, and it is never started twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.runner.run import REJOIN
from support import lab as labs
from support.command import Launcher
from support.waiting import KILL_HOLDER, Queue

THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2) for n in (1, 2, 3))
WHERE = "one of gpu[1-3]; whichever is free first starts it"

#: Kills the process that holds a socket of this name, as soon as a file is there.
KILL_HOLDER_AT = """
import glob, os, sys
(inode,) = {line.split()[6] for line in open("/proc/net/unix") if "/" + sys.argv[1] in line
            and line.split()[5] == "01"}
def holds(fd):
    try:
        return os.readlink(fd) == "socket:[%s]" % inode
    except OSError:
        return False
pids = {int(fd.split("/")[2]) for fd in glob.glob("/proc/[0-9]*/fd/*") if holds(fd)}
open("/tmp/ready", "w").close()
while not os.path.exists(sys.argv[2]):
    pass
for pid in pids:
    os.kill(pid, 9)
open("/tmp/killed", "w").close()
"""


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Three hosts, each with a run of its name that has all its GPUs."""
    with closing(Queue(own, launcher)) as made:
        made.occupy(own.hosts)
        yield made


def until_led_by(queue: Queue, host: str, run: str, others: tuple[str, ...]) -> None:
    """Wait until a host leads a run, and holds others back with it."""
    queue.until_there(host, run, "WaitsOnHosts")
    for name in others:
        labs.wait_until(
            lambda name=name: is_in_line(queue, name, run), f"{run} is in the queue of {name}", 60
        )


def is_in_line(queue: Queue, host: str, run: str) -> bool:
    """Return whether a run has a ticket on a host that holds others back."""
    short = run.rpartition("-")[0] if run.count("-") > 2 else run
    names = [one.split()[-1] for one in queue.sockets(host).splitlines() if "wait/" in one]
    mine = [one for one in names if short.split("-")[0] in one]
    return bool(mine) and not any("a" in one.rpartition("/")[2].split(".") for one in mine)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_another_host_leads_it_once_the_leader_has_no_power(queue: Queue) -> None:
    """With nobody in touch. Who attaches finds all, and the host that is off is missed by nobody."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    queue.lab.hosts["gpu1"].power_cut()
    until_led_by(queue, "gpu2", folder.name, ("gpu2", "gpu3"))
    queue.let_go("on-gpu3")
    labs.wait_until(
        lambda: "BegunThere" in queue.recorded("gpu3", folder.name), "it begins on gpu3", 10
    )
    queue.until_there("gpu2", folder.name, "HostEnded")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert "0 of 1 has 0,1" in attached.stdout
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]
    assert "began without gpu1, which did not answer" in attached.stderr
    queue.lab.hosts["gpu1"].boot()
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_leader_that_was_cut_off_ends_its_wait_when_it_is_back(queue: Queue) -> None:
    """Its own GPUs are free first, but it is alone: it begins nothing."""
    command = "python3 hold.py second"
    folder = queue.detached("second", "--gpus", "2", where=WHERE, command=command)
    leader = queue.lab.hosts["gpu1"]
    leader.unplug()
    until_led_by(queue, "gpu2", folder.name, ("gpu2", "gpu3"))
    leader.write("/tmp/on-gpu1", b"")
    queue.let_go("on-gpu2")
    queue.until_there("gpu2", folder.name, "BegunThere")
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    leader.plug()
    queue.until_there("gpu1", folder.name, "HostEnded")
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    queue.let_go("second")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu2"]


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_two_hosts_of_three_need_no_third_one(queue: Queue) -> None:
    """The leader's supervisor is killed; who attaches then lets it wait again, and may choose it."""
    folder = queue.detached(
        "second", "--gpus", "4", where="2 of gpu[1-3]; whichever are free first start it"
    )
    queue.lab.hosts["gpu1"].run("python3", "-c", KILL_HOLDER, "wait/second-")
    until_led_by(queue, "gpu2", folder.name, ("gpu2", "gpu3"))
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: "wait/second-" in queue.sockets("gpu1"), "it waits again", 60)
    queue.let_go("on-gpu1", "on-gpu3")
    assert queue.until_there("gpu3", folder.name, "BegunThere")["hosts"] == ["gpu1", "gpu3"]
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, out.count(b"met")) == (0, 1), (out, err)
    for name in ("gpu1", "gpu3"):
        assert queue.recorded(name, folder.name).count("BegunThere") == 1


@pytest.mark.slow
@pytest.mark.rare
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_another_machine_takes_it_up_without_its_leader(queue: Queue, tmp_path: Path) -> None:
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    queue.lab.hosts["gpu1"].power_cut()
    until_led_by(queue, "gpu2", folder.name, ("gpu2", "gpu3"))
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    words = ("attach", "-i", str(queue.launcher.inventory), folder.name)
    attached = elsewhere.start_command(*words)
    queue.started.append(attached)
    there = elsewhere.home / "runs" / folder.name / "events.jsonl"
    labs.wait_until(lambda: there.exists() and '"RunWaits"' in there.read_text(), "it waits", 60)
    queue.let_go("on-gpu2")
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, b"0 of 1 has 0,1" in out) == (0, True), (out, err)
    assert queue.recorded("gpu2", folder.name).count("BegunThere") == 1


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_host_without_a_majority_begins_nothing(queue: Queue) -> None:
    """Two of three are off. The run waits, holds nobody back, and goes on where one is back."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    for name in ("gpu1", "gpu2"):
        queue.lab.hosts[name].unplug()
    labs.wait_until(lambda: not is_in_line(queue, "gpu3", "second"), "it holds nobody back", 60)
    third = queue.start("third", "--gpus", "2", "--hosts", "gpu3")
    queue.let_go("on-gpu3")
    queue.until("third", "AllStarted")
    assert "BegunThere" not in queue.recorded("gpu3", folder.name)
    for name in ("gpu1", "gpu2"):
        queue.lab.hosts[name].plug()
    queue.let_go("third")
    assert third.wait(60) == 0
    queue.until_there("gpu3", folder.name, "BegunThere")


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_leader_that_is_killed_in_the_middle_of_a_start(queue: Queue) -> None:
    """It has agreed to the start on gpu3. Whatever the others know of that, gpu3 begins, and once."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    leader = queue.lab.hosts["gpu1"]
    place = f"/root/.launcher/host/runs/{folder.name}/agreed"
    leader.spawn("python3", "-c", KILL_HOLDER_AT, "wait/second-", place)
    labs.wait_until(lambda: leader.exists("/tmp/ready"), "it is about to be killed", 60)
    queue.let_go("on-gpu3")
    labs.wait_until(lambda: leader.exists("/tmp/killed"), "it is killed", 60)
    queue.until_there("gpu3", folder.name, "BegunThere")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert attached.stdout.count("0 of 1 has 0,1") == 1
    assert queue.recorded("gpu3", folder.name).count("BegunThere") == 1
    assert "BegunThere" not in queue.recorded("gpu2", folder.name)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_start_that_may_have_happened_is_asked_about(queue: Queue) -> None:
    """gpu2 has agreed that the run begins on gpu1, which lost power just then, as did all others. It
    begins nowhere until gpu1 has been asked, and then once."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    for name in ("gpu2", "gpu3"):
        queue.lab.hosts[name].run("python3", "-c", KILL_HOLDER, "wait/second-")
    queue.lab.hosts["gpu1"].power_cut()
    agreed = json.dumps({"key": "an earlier wait", "hosts": ["gpu1"]}).encode()
    queue.lab.hosts["gpu2"].write(f"/root/.launcher/host/runs/{folder.name}/agreed", agreed)
    queue.let_go("on-gpu2", "on-gpu3")
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    queue.until("second", "ConnectionResumed")
    labs.wait_until(lambda: "wait/second-" in queue.sockets("gpu3"), "gpu3 waits again", 60)
    assert "wait/second-" not in queue.sockets("gpu2"), "it has agreed to a start"
    queue.lab.hosts["gpu1"].boot()
    out, err = attached.communicate(timeout=150)
    assert (attached.returncode, out.count(b"0 of 1 has 0,1")) == (0, 1), (out, err)
    begun = [queue.recorded(name, folder.name).count("BegunThere") for name in queue.lab.hosts]
    assert sum(begun) == 1


def until_it_goes_on_without_others(queue: Queue) -> None:
    """Wait until who attaches to "second" has reached one host, and waits for no other to begin."""
    queue.until("second", "ConnectionResumed")
    let_pass(REJOIN + 2, "it waits for no other")


def let_pass(seconds: float, what: str) -> None:
    """Let so much time pass."""
    over = time.monotonic() + seconds
    labs.wait_until(lambda: time.monotonic() > over, what, 2 * seconds)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_who_attaches_may_learn_late_that_it_is_over(queue: Queue) -> None:
    """The host that led has rebooted, and answers first: it waits no more."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    hosts = queue.lab.hosts
    hosts["gpu1"].power_cut()
    until_led_by(queue, "gpu2", folder.name, ("gpu2", "gpu3"))
    queue.let_go("on-gpu3")
    for name in ("gpu2", "gpu3"):
        queue.until_there(name, folder.name, "HostEnded")
        hosts[name].freeze_sshd()
    hosts["gpu1"].boot()
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    until_it_goes_on_without_others(queue)
    for name in ("gpu2", "gpu3"):
        hosts[name].thaw_sshd()
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, out.count(b"0 of 1 has 0,1")) == (0, 1), (out, err)
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_a_start_of_which_one_host_knows_is_no_reason_for_another(queue: Queue) -> None:
    """It runs on gpu3, which nobody reaches. gpu2 was off as it began, and gpu1, which led, has lost all
    that it wrote down later. Who attaches reaches gpu2 first, and lets neither wait again."""
    command = "python3 hold.py second"
    folder = queue.detached("second", "--gpus", "2", where=WHERE, command=command)
    hosts = queue.lab.hosts
    hosts["gpu2"].power_cut()
    queue.let_go("on-gpu3")
    queue.until_there("gpu3", folder.name, "BegunThere")
    queue.until_there("gpu1", folder.name, "HostEnded")
    journal = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
    hosts["gpu1"].run("sed", "-i", "/StopRequested/d;/HostEnded/d", journal)
    hosts["gpu1"].power_cut()
    for one in ("gpu1", "gpu2", labs.LAUNCHER):
        hosts["gpu3"].drop_packets(one)
    hosts["gpu2"].boot()
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    until_it_goes_on_without_others(queue)
    hosts["gpu1"].boot()
    labs.wait_until(
        lambda: len([one for one in queue.events("second") if one["event"] == "BegunThere"]) > 0,
        "it is known that it has begun",
        60,
    )
    let_pass(20, "it had time to begin elsewhere")
    queue.let_go("second")
    hosts["gpu3"].unblock()
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, out.count(b"has 0,1")) == (0, 1), (out, err)
    assert "BegunThere" not in queue.recorded("gpu2", folder.name)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]


SMALL = tuple(replace(one, home_size=None if one.name == "gpu1" else "12M") for one in THREE)


@pytest.mark.slow
@pytest.mark.parametrize("own", [SMALL], indirect=True)
def test_it_begins_once_most_disks_have_room(queue: Queue) -> None:
    """Also those of hosts that it does not begin on: until then it keeps no GPU, and says why it waits."""
    folder = queue.detached("second", "--gpus", "2", where=WHERE)
    full = [queue.lab.hosts[name] for name in ("gpu2", "gpu3")]
    for host in full:
        host.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")
    queue.let_go("on-gpu1")

    def is_told() -> bool:
        (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
        return (shown["why"], shown["full"]) == ("no-room", ["gpu2", "gpu3"])

    labs.wait_until(is_told, "the queue tells why", 60)
    labs.wait_until(lambda: "gpu/0/second-" not in queue.sockets("gpu1"), "it keeps no GPU", 20)
    assert "BegunThere" not in queue.recorded("gpu1", folder.name)
    full[1].run("rm", "/root/ballast")
    assert queue.until_there("gpu1", folder.name, "BegunThere")["hosts"] == ["gpu1"]
    full[0].run("rm", "/root/ballast")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr


FOUR = (*THREE, labs.HostSpec("gpu4", gpus=0))
PROJECTS = """
projects:
  team-a: {quota: 2, limit: 4, users: [root]}
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_a_run_with_a_project_is_led_by_another_host(own: labs.Lab, launcher: Launcher) -> None:
    """Three of four hosts are a majority for its project: the last one only witnesses."""
    queue = Queue(own, launcher)
    launcher.inventory.write_text(launcher.inventory.read_text() + PROJECTS)
    try:
        queue.occupy(("gpu1", "gpu2", "gpu3"))
        words = ("--gpus", "2", "--project", "team-a")
        folder = queue.detached("second", *words, where=WHERE)
        queue.lab.hosts["gpu1"].power_cut()
        queue.let_go("on-gpu3")
        queue.until_there("gpu2", folder.name, "WaitsOnHosts")
        begun = queue.until_there("gpu3", folder.name, "BegunThere")
        assert begun["hosts"] == ["gpu3"]
        labs.wait_until(lambda: "/witness/" not in queue.sockets("gpu4"), "gpu4 is let go", 30)
        attached = queue.launcher.call("attach", "second")
        assert attached.returncode == 0, attached.stderr
        assert json.loads((folder / "receipt.json").read_text())["status"] == "succeeded"
    finally:
        queue.close()
