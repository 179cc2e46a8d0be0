"""A run that needs all of several hosts is started by them together, whatever becomes of its launcher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, kill_follower
from support.waiting import FRAMEWORK, KILL_HOLDER, MEETING, Queue

TWO = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("gpu2", gpus=4))


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Two hosts, all of whose GPUs the run "first" holds."""
    made = Queue(own, launcher)
    try:
        made.start("first", "--gpus", "8")
        made.until("first", "AllStarted")
        yield made
    finally:
        made.close()


#: Stop and continue the process that holds a socket of this name.
STOP_HOLDER = KILL_HOLDER.replace(", 9)", ", 19)")
CONTINUE_HOLDER = KILL_HOLDER.replace(", 9)", ", 18)")


def detached(queue: Queue, name: str, *words: str) -> Path:
    """Start a run that waits on both hosts, and kill its follower; return its folder."""
    return queue.detached(name, *words, where="gpu[1-2], which start it together")


def is_over(queue: Queue, host: str, run: str) -> bool:
    """Return whether a run has ended on a host, or has left nothing there."""
    recorded = queue.recorded(host, run)
    return not recorded or "HostEnded" in recorded


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_they_begin_with_nobody_in_touch(queue: Queue) -> None:
    """The launching machine is off, and clocks are 10 minutes apart; attach finds everything."""
    queue.lab.hosts["gpu2"].set_clock(600)
    folder = detached(queue, "second", "--gpus", "8")
    (first,) = queue.launcher.home.glob("runs/first-*")
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert (shown["run"], shown["by_itself"]) == (folder.name, True)
    assert "its hosts" in queue.call().stdout
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("first")
    begun = [queue.until_there(host, folder.name, "BegunThere")["time"] for host in queue.lab.hosts]
    ended = [queue.until_there(host, first.name, "HostEnded")["time"] for host in queue.lab.hosts]
    assert begun[0] - max(ended) < 30, "nobody looks only now and then"
    assert begun[1] - max(ended) > 590, "its clock is ahead since then"
    for host in queue.lab.hosts.values():
        host.unblock()
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    lines = sorted(line.partition("│ ")[2] for line in attached.stdout.splitlines() if "│" in line)
    assert lines == ["0 of 2 has 0,1,2,3", "1 of 2 has 0,1,2,3", "met"]
    plan = json.loads((folder / "plan.json").read_text())
    assert [node["gpus"] for node in plan["nodes"]] == [[0, 1, 2, 3]] * 2
    assert json.loads((folder / "receipt.json").read_text())["status"] == "succeeded"


#: The lead needs more GPUs of its host than its helper of the other one.
UNEQUAL = """
framework: env
roles:
  lead: {{lead: true, resources: {{gpus: 3}}, run: python3 hold.py {name}}}
  helper: {{resources: {{gpus: 2}}, run: python3 hold.py {name}}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_roles_wait_for_what_they_need_of_each_host_and_for_no_more(queue: Queue) -> None:
    """Started by their launcher, as there are few ports to meet at, and by their hosts."""
    for name in ("by-launcher", "by-hosts"):
        queue.launcher.script(UNEQUAL.format(name=name), f"{name}.yaml")
    for name, host, gpus in (("one", "gpu1", 1), ("two", "gpu1", 1), ("three", "gpu2", 2)):
        queue.start(name, "--hosts", host, "--gpus", str(gpus))
    queue.let_go("first")
    for name in ("one", "two", "three"):
        queue.until(name, "AllStarted")
    few = ("--master-port", "29500-29505")
    words = ("--wait", "forever", "--name", "by-launcher", *few, "by-launcher.yaml")
    by_launcher = queue.launcher.start(*words)
    queue.started.append(by_launcher)
    assert queue.until("by-launcher", "RunWaits")["why"] == "busy"
    done = queue.launcher.call(
        "run", "-i", str(queue.launcher.inventory), "-d", "--name", "by-hosts",
        "--wait", "forever", "by-hosts.yaml",
    )  # fmt: skip
    assert "which start it together" in done.stderr, done.stderr
    (folder,) = queue.launcher.home.glob("runs/by-hosts-*")
    queue.until_met("by-hosts")
    kill_follower(folder)
    shown = {one["run"][:6]: one for one in json.loads(queue.call("--json").stdout)["waiting"]}
    assert shown["by-lau"]["shares"] == shown["by-hos"]["shares"] == [3, 2], shown
    queue.let_go("two")  # 3 of gpu1 and 2 of gpu2 are free, and no host is
    queue.until("by-launcher", "AllStarted")
    queue.let_go("by-launcher")
    assert by_launcher.wait(60) == 0
    begun = [queue.until_there(host, folder.name, "BegunThere") for host in ("gpu1", "gpu2")]
    assert sorted(len(one["gpus"]) for one in begun) == [2, 3]
    queue.let_go("by-hosts", "one", "three")
    labs.wait_until(lambda: is_over(queue, "gpu1", folder.name), "the end", 60)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["gpu1", "gpu2"])
@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_supervisor_is_killed_and_the_host_waits_again(queue: Queue, name: str) -> None:
    """That of the leader, or of the other host. Without all of its hosts the run holds nobody back; it is
    neither lost nor started twice."""
    folder = detached(queue, "second", "--gpus", "8")
    third = queue.start("third", "--gpus", "4", "--hosts", "gpu1")
    queue.until("third", "RunWaits")
    queue.lab.hosts[name].run("python3", "-c", KILL_HOLDER, "wait/second-")
    labs.wait_until(lambda: queue.order()[0] == "third", "second holds nobody back", 60)
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: queue.order() == ["second", "third"], "second is back", 60)
    queue.let_go("first", "third")
    out, err = attached.communicate(timeout=90)
    assert (attached.returncode, b"met" in out) == (0, True), (out, err)
    third.communicate(timeout=60)
    for host in queue.lab.hosts:
        events = queue.recorded(host, folder.name)
        assert events.count("BegunThere") == 1


@pytest.mark.frameworks
@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_the_leader_dies_while_hosts_claim(queue: Queue) -> None:
    """A host that has locked its GPUs for a leader that is gone lets go of them once it is told anew."""
    leader, other = queue.lab.hosts.values()
    half = queue.start("half", "--gpus", "4", "--hosts", "gpu1")
    queue.until("half", "RunWaits")
    queue.let_go("first")
    queue.until("half", "AllStarted")
    folder = detached(queue, "second", "--gpus", "8")
    other.run("python3", "-c", STOP_HOLDER, "wait/second-")
    queue.let_go("half")
    labs.wait_until(lambda: "gpu/0/second-" in queue.sockets("gpu1"), "the leader has claimed", 60)
    leader.run("python3", "-c", KILL_HOLDER, "wait/second-")
    other.run("python3", "-c", CONTINUE_HOLDER, "wait/second-")
    labs.wait_until(
        lambda: "gpu/0/second-" in queue.sockets("gpu2"), "the other has claimed, too", 60
    )
    half.communicate(timeout=60)
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    for host in queue.lab.hosts:
        events = queue.recorded(host, folder.name)
        assert events.count("BegunThere") == 1


@pytest.mark.frameworks
@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_hosts_that_are_cut_off_from_each_other_wait(queue: Queue) -> None:
    """One of them is out of reach of the launcher, too: it is stopped by word of the other."""
    leader, other = queue.lab.hosts.values()
    folder = detached(queue, "second", "--gpus", "8")
    stopped = detached(queue, "stopped", "--gpus", "8")
    leader.drop_packets("gpu2")
    other.drop_packets("gpu1")
    other.drop_packets()
    stopping = queue.launcher.start_command("stop", "--grace", "0", "stopped")
    queue.started.append(stopping)
    labs.wait_until(lambda: is_over(queue, "gpu1", stopped.name), "it is stopped here", 60)
    queue.let_go("first")
    assert "BegunThere" not in queue.recorded("gpu2", folder.name)
    leader.unblock()
    other.unblock()
    for host in queue.lab.hosts:
        queue.until_there(host, folder.name, "BegunThere")
    labs.wait_until(lambda: is_over(queue, "gpu2", stopped.name), "it is stopped there", 60)
    stopping.communicate(timeout=60)
    assert queue.launcher.call("attach", "second").returncode == 0


FULL = (TWO[0], labs.HostSpec("gpu2", gpus=4, home_size="12M"))


@pytest.mark.slow
@pytest.mark.parametrize("hosts", ["gpu[1-2]", "gpu2"], ids=["two hosts", "one host"])
@pytest.mark.parametrize("own", [FULL], indirect=True)
def test_it_begins_once_a_full_disk_has_room(queue: Queue, hosts: str) -> None:
    """What is not written down could be started twice: until then it keeps its turn, and says why."""
    names = ["gpu1", "gpu2"] if hosts == "gpu[1-2]" else ["gpu2"]
    command = MEETING if hosts == "gpu[1-2]" else "true"
    done = queue.launcher.call(
        "run", "-i", str(queue.launcher.inventory), "-d", "--name", "second", *FRAMEWORK,
        "--hosts", hosts, "--gpus", str(4 * len(names)), "--wait", "forever", command,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = queue.launcher.home.glob("runs/second-*")
    full = queue.lab.hosts["gpu2"]
    full.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")
    queue.let_go("first")

    def is_told() -> bool:
        (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
        return (shown["why"], shown["full"], shown["place"]) == ("no-room", ["gpu2"], 0)

    labs.wait_until(is_told, "the queue tells why", 60)
    assert "no space left on gpu2" in queue.call().stdout
    full.run("rm", "/root/ballast")
    for name in names:
        queue.until_there(name, folder.name, "BegunThere")
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    for name in names:
        events = queue.recorded(name, folder.name)
        assert events.count("BegunThere") == 1
