"""A run that may choose among hosts is started by those that are free first, whatever becomes of its
launcher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, kill_follower
from support.waiting import FRAMEWORK, KILL_HOLDER, MEETING, TERMINATE_HOLDER, Queue

THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2) for n in (1, 2, 3))


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Three hosts, each with a run of its name that has all its GPUs."""
    with closing(Queue(own, launcher)) as made:
        made.occupy(own.hosts)
        yield made


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_one_host_of_three_starts_it_with_nobody_in_touch(queue: Queue) -> None:
    """The leader has no part in it; the others let go of it, and attach finds everything."""
    folder = queue.detached(
        "second", "--gpus", "2", where="one of gpu[1-3]; whichever is free first starts it"
    )
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert (shown["run"], shown["by_itself"]) == (folder.name, True)
    assert "its hosts" in queue.call().stdout
    for host in queue.lab.hosts.values():
        host.drop_packets()
    queue.let_go("on-gpu3")
    assert queue.until_there("gpu3", folder.name, "BegunThere")["hosts"] == ["gpu3"]
    for name in ("gpu1", "gpu2"):
        queue.until_there(name, folder.name, "HostEnded")
        assert "wait/second-" not in queue.sockets(name)
    for host in queue.lab.hosts.values():
        host.unblock()
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    assert "0 of 1 has 0,1" in attached.stdout
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["status"] == "succeeded"
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]
    assert [one["host"] for one in json.loads((folder / "run.json").read_text())["nodes"]] == [
        "gpu3"
    ]
    assert not queue.recorded("gpu1", folder.name), "nothing is left where it was not needed"


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_two_hosts_of_three_start_it_together(queue: Queue) -> None:
    folder = queue.detached(
        "second", "--gpus", "4", where="2 of gpu[1-3]; whichever are free first start it"
    )
    queue.let_go("on-gpu1", "on-gpu3")
    chosen = queue.until_there("gpu1", folder.name, "BegunThere")["hosts"]
    assert (
        chosen == queue.until_there("gpu3", folder.name, "BegunThere")["hosts"] == ["gpu1", "gpu3"]
    )
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    lines = sorted(line.partition("│ ")[2] for line in attached.stdout.splitlines() if "│" in line)
    assert lines == ["0 of 2 has 0,1", "1 of 2 has 0,1", "met"]
    assert not queue.recorded("gpu2", folder.name)


UNEQUAL = tuple(labs.HostSpec(f"gpu{n}", gpus=4 if n == 1 else 2) for n in (1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("own", [UNEQUAL], indirect=True)
def test_hosts_with_unequal_parts_start_it_together(own: labs.Lab, launcher: Launcher) -> None:
    """Six GPUs, of which four are on one host: with nobody in touch, on whichever other is free first."""
    queue = Queue(own, launcher)
    try:
        for host, count in (("gpu1", "4"), ("gpu2", "2"), ("gpu3", "2")):
            queue.start(f"on-{host}", "--gpus", count, "--hosts", host)
            queue.until(f"on-{host}", "AllStarted")
        folder = queue.detached(
            "second", "--gpus", "6", where="2 of gpu[1-3]; whichever are free first start it"
        )
        for host in queue.lab.hosts.values():
            host.drop_packets()
        queue.let_go("on-gpu1", "on-gpu3")
        for host in queue.lab.hosts.values():
            host.unblock()
        begun = queue.until_there("gpu1", folder.name, "BegunThere")
        assert (begun["hosts"], begun["gpus"]) == (["gpu1", "gpu3"], [0, 1, 2, 3])
        attached = queue.launcher.call("attach", "second")
        assert attached.returncode == 0, attached.stderr
        assert "0 of 2 has 0,1,2,3" in attached.stdout
        assert "1 of 2 has 0,1\n" in attached.stdout
    finally:
        queue.close()


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_it_begins_without_a_host_that_is_gone(queue: Queue) -> None:
    """With its supervisor killed and its cable pulled, gpu2 is missed by nobody; the setup has run on all
    before. Who attaches meanwhile waits for none of it."""
    queue.launcher.script(
        f"framework: env\nsetup: hostname >/tmp/set-up\nrun: {MEETING}\n", "j.yaml"
    )
    done = queue.launcher.call(
        "run", "-i", str(queue.launcher.inventory), "-d", "--name", "second", "--wait", "forever",
        "--gpus", "2", "j.yaml",
    )  # fmt: skip
    assert "one of gpu[1-3]; whichever is free first starts it" in done.stderr, done.stderr
    (folder,) = queue.launcher.home.glob("runs/second-*")
    queue.until_met("second")
    kill_follower(folder)
    assert all(host.exists("/tmp/set-up") for host in queue.lab.hosts.values())
    gone = queue.lab.hosts["gpu2"]
    gone.run("python3", "-c", KILL_HOLDER, "wait/second-")
    gone.drop_packets()
    for host in ("gpu1", "gpu3"):
        gone.drop_packets(host)
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: (folder / "launcher.lock").read_text() != "", "it is followed", 60)
    queue.let_go("on-gpu3")
    assert queue.until_there("gpu3", folder.name, "BegunThere")["hosts"] == ["gpu3"]
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, b"0 of 1 has 0,1" in out) == (0, True), (out, err)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]
    assert b"began without gpu2, which did not answer: the next contact cleans up there" in err
    gone.unblock()
    again = queue.launcher.run("--hosts", "gpu2", "--gpus", "0", *FRAMEWORK, "true")
    assert f"cleaned up leftovers of {folder.name}" in again.err, again.err


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_hosts_that_were_rebooted_are_told_by_who_attaches(queue: Queue) -> None:
    """Without two of its hosts the run waits, and holds nobody back. It is neither lost nor started twice, and
    a host that was out of reach meanwhile may be chosen once it is back."""
    folder = queue.detached(
        "second", "--gpus", "4", where="2 of gpu[1-3]; whichever are free first start it"
    )
    away = queue.lab.hosts["gpu3"]
    for name in ("gpu1", "gpu2"):
        queue.lab.hosts[name].run("python3", "-c", TERMINATE_HOLDER, "wait/second-")
    third = queue.start("third", "--gpus", "2", "--hosts", "gpu2")
    queue.until("third", "RunWaits")
    labs.wait_until(lambda: queue.order()[0] == "third", "second holds nobody back", 60)
    away.drop_packets()
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: "wait/second-" in queue.sockets("gpu1"), "it waits again", 60)
    away.unblock()
    queue.let_go("on-gpu1", "on-gpu3")
    assert queue.until_there("gpu3", folder.name, "BegunThere")["hosts"] == ["gpu1", "gpu3"]
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, out.count(b"met")) == (0, 1), (out, err)
    for name in ("gpu1", "gpu3"):
        assert queue.recorded(name, folder.name).count("BegunThere") == 1
    queue.let_go("on-gpu2", "third")
    assert third.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_it_is_stopped_wherever_it_waits(queue: Queue) -> None:
    """One host is out of reach of the launcher, and is told by the others."""
    folder = queue.detached(
        "second", "--gpus", "2", where="one of gpu[1-3]; whichever is free first starts it"
    )
    away = queue.lab.hosts["gpu3"]
    away.drop_packets()
    stopping = queue.launcher.start_command("stop", "--grace", "0", "second")
    queue.started.append(stopping)
    queue.until_there("gpu3", folder.name, "HostEnded")
    away.unblock()
    _, err = stopping.communicate(timeout=60)
    assert stopping.returncode == 0, err
    assert json.loads((folder / "receipt.json").read_text())["status"] == "stopped"
    queue.let_go("on-gpu3")
    assert "BegunThere" not in queue.recorded("gpu3", folder.name)


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_it_starts_again_where_it_was_begun(queue: Queue) -> None:
    """A restart and a launcher that takes it up later know its hosts, though their places have changed."""
    fails_once = (
        "import os, pathlib, sys, time\n"
        "mark = pathlib.Path('/tmp/failed')\n"
        "print('try', mark.exists(), flush=True)\n"
        "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
        "if not mark.exists():\n    mark.touch()\n    sys.exit(1)\n"
    )
    queue.launcher.script(fails_once, "fails.py")
    job = "{framework: env, setup: echo set up, run: python3 fails.py}"
    queue.launcher.script(job, "j.yaml")
    run = queue.launcher.start(
        "--wait", "forever", "--name", "second", "--gpus", "2", "--max-restarts", "1", "j.yaml"
    )
    queue.started.append(run)
    queue.until("second", "RunWaits")
    queue.let_go("on-gpu3")
    queue.until("second", "AllStarted")
    (folder,) = queue.launcher.home.glob("runs/second-*")
    run.kill()
    run.communicate()
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    queue.let_go("go")
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, b"try True" in out) == (0, True), (out, err)
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu3"]


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_hosts_that_do_not_reach_each_other_leave_it_to_its_launcher(queue: Queue) -> None:
    for one in queue.lab.hosts.values():
        for other in queue.lab.hosts:
            if other != one.name:
                one.drop_packets(other)
    second = queue.start("second", "--gpus", "2", command="true")
    queue.until("second", "RunWaits")
    (shown,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert shown["by_itself"] is False
    queue.let_go("on-gpu2")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err


@pytest.mark.slow
@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_another_machine_takes_it_up(queue: Queue, tmp_path: Path) -> None:
    """While it waits, and once it has begun, it is known there on which hosts."""
    folder = queue.detached(
        "second",
        "--gpus",
        "2",
        where="one of gpu[1-3]; whichever is free first starts it",
        command="sleep 600",
    )
    words = ("attach", "-i", str(queue.launcher.inventory), folder.name)
    queue.lab.hosts["gpu1"].drop_packets()
    blind = replace(queue.launcher, home=tmp_path / "blind").call(*words)
    assert (blind.returncode, "attach once it answers" in blind.stderr) == (2, True), blind.stderr
    queue.lab.hosts["gpu1"].unblock()
    for number, status in enumerate(("waits", "runs")):
        elsewhere = replace(queue.launcher, home=tmp_path / f"elsewhere-{number}")
        if status == "runs":
            queue.let_go("on-gpu2")
            queue.until_there("gpu2", folder.name, "BegunThere")
            for name in ("gpu1", "gpu3"):
                queue.until_there(name, folder.name, "HostEnded")
        attached = elsewhere.start_command(*words)
        queue.started.append(attached)
        there = elsewhere.home / "runs" / folder.name
        until_known(there, "RunWaits" if status == "waits" else "ProcessStarted")
        first, *_ = (there / "events.jsonl").read_text().splitlines()[1:]
        known_by_then = "WaitsOnHosts" if status == "waits" else "AllStarted"
        assert known_by_then in first, "else it would take the run for one whose launcher died"
        attached.kill()
        attached.communicate()
    stopped = elsewhere.call("stop", "--grace", "0", folder.name)
    assert stopped.returncode == 0, stopped.stderr
    receipt = json.loads((there / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == ["gpu2"]


TWELVE = tuple(labs.HostSpec(f"gpu{n:02}", gpus=1) for n in range(1, 13))
#: One run has the GPUs of these hosts, and another those of all others.
SOON = ["gpu01", "gpu03", "gpu05", "gpu07", "gpu09", "gpu11", "gpu12"]


@pytest.fixture
def many(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Twelve hosts with a GPU each, which two runs have: six of them may be chosen in 924 ways, which
    are too many to list."""
    made = Queue(own, launcher)
    held = [name for name in own.hosts if name not in SOON]
    try:
        for name, hosts in (("held", held), ("soon", SOON)):
            made.start(name, "--gpus", str(len(hosts)), "--hosts", ",".join(hosts))
        for name in ("held", "soon"):
            made.until(name, "AllStarted")
        yield made
    finally:
        made.close()


def any_six(queue: Queue) -> Path:
    """Have a run wait for any six hosts, with nobody in touch; return its folder."""
    folder = queue.detached(
        "second", "--gpus", "6", where="6 of gpu[01-12]; whichever are free first start it",
        command="echo $HOSTS $SLOTS $LAUNCHER_NODE_RANK; " + MEETING,
    )  # fmt: skip
    assert "its hosts" in queue.call().stdout
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [TWELVE], indirect=True)
def test_any_six_of_twelve_hosts_start_it(many: Queue) -> None:
    """Two hosts lose their power. Each process knows its place and who the others are."""
    folder, hosts = any_six(many), many.lab.hosts
    for host in hosts.values():
        host.drop_packets()
    off = ("gpu05", "gpu02")
    for name in off:
        hosts[name].power_cut()
    chosen = [name for name in SOON if name not in off]
    for name in chosen:
        hosts[name].write("/tmp/soon", b"")
    for name in chosen:
        assert many.until_there(name, folder.name, "BegunThere")["hosts"] == chosen
    for name in hosts:
        if name not in off:
            hosts[name].unblock()
    attached = many.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    slots = ",".join(f"{name}:1" for name in chosen)
    for rank in range(6):
        assert f"{' '.join(chosen)} {slots} {rank}" in attached.stdout, attached.stdout
        assert f"{rank} of 6 has 0" in attached.stdout
    logs = folder / "logs" / "attempt-0"
    assert all("met" in (logs / f"node-{rank}.out").read_text() for rank in range(1, 6))
    receipt = json.loads((folder / "receipt.json").read_text())
    assert [one["host"] for one in receipt["hosts"]] == chosen


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("own", [TWELVE], indirect=True)
def test_any_six_are_told_again_by_who_attaches(many: Queue) -> None:
    """The supervisor of the leader has died, and a host is away: eleven hosts have 462 ways."""
    folder, hosts = any_six(many), many.lab.hosts
    hosts["gpu01"].run("python3", "-c", TERMINATE_HOLDER, "wait/second-")
    hosts["gpu03"].drop_packets()
    attached = many.launcher.start_command("attach", "second")
    many.started.append(attached)
    labs.wait_until(lambda: "wait/second-" in many.sockets("gpu01"), "it waits again", 60)
    chosen = [name for name in SOON if name != "gpu03"]
    for name in chosen:
        hosts[name].write("/tmp/soon", b"")
    assert many.until_there("gpu12", folder.name, "BegunThere")["hosts"] == chosen
    hosts["gpu03"].unblock()
    out, err = attached.communicate(timeout=120)
    assert attached.returncode == 0, (out, err)
    assert all(f"{rank} of 6 has 0".encode() in out for rank in range(6)), out


def until_known(folder: Path, event: str) -> None:
    """Wait until a run has had an event, as far as its folder knows."""
    file = folder / "events.jsonl"
    labs.wait_until(
        lambda: file.exists() and f'"{event}"' in file.read_text(), f"{event} is known", 60
    )
