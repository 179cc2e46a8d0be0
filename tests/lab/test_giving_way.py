"""Something breaks while a run gives its GPUs back, or waits again, with nobody in touch: it is started once,
on the hosts that it had, or ends as its user wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support import object_store
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
from support.unattended import stored_alone
from support.waiting import Queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
rare = pytest.mark.rare
on_two = pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
BOTH = ("gpu1", "gpu2")


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    with lending(own, launcher) as made:
        yield made


def wanted_on(queue: Queue, host: str) -> None:
    """Start a run that takes the GPUs of a host back."""
    queue.start("owner", "--gpus", "2", "--hosts", host, *OWNS)


def waits_again(queue: Queue, *words: str) -> Path:
    """Return the folder of a run that has given way on both of its hosts, as one is wanted back."""
    folder = borrower(queue, "--gpus", "4", *words)
    wanted_on(queue, "gpu2")
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    return folder


def attach(queue: Queue, folder: Path) -> None:
    """Follow a run, in the background."""
    queue.started.append(queue.launcher.start_command("attach", folder.name))


def continues(queue: Queue, folder: Path, hosts: tuple[str, ...] = BOTH) -> None:
    """The run starts again once, ends well, and leaves nobody who decides about it."""
    queue.let_go("owner")
    for host in hosts:
        until_attempt(queue, host, folder.name, 1)
    queue.let_go("lonely")
    done = queue.launcher.call("attach", folder.name)
    assert done.returncode == 0, done.stderr
    assert not witnesses(queue, "lonely")
    for host in hosts:
        begun = [one for one in queue.journal(host, folder.name) if one["event"] == "BegunThere"]
        assert [one["attempt"] for one in begun][-1:] in ([1], []), begun


def receipt(folder: Path) -> dict[str, Any]:
    """Return the receipt of a run."""
    found: dict[str, Any] = json.loads((folder / "receipt.json").read_text())
    return found


@on_two
@pytest.mark.parametrize(
    ("cut", "moment"),
    [
        ("gpu1", "saving"),
        pytest.param("gpu2", "saving", marks=rare),
        ("gpu1", "forgotten"),
        pytest.param("gpu2", "saved", marks=rare),
    ],
)
def test_a_host_loses_power_as_it_gives_way(queue: Queue, cut: str, moment: str) -> None:
    """It boots again, and who attaches lets the run continue. Its disk may have lost the last records."""
    folder = borrower(queue, "--gpus", "4")
    there, other = queue.lab.hosts[cut], "gpu2" if cut == "gpu1" else "gpu1"
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    if moment != "saved":
        there.write("/tmp/saves-long", b"")
    wanted_on(queue, other)
    queue.until_there(cut, folder.name, "WaitsAgain" if moment == "saved" else "StopRequested")
    there.power_cut()
    queue.until_there(other, folder.name, "WaitsAgain")
    there.boot()
    if moment == "forgotten":
        journal = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
        there.run("sed", "-i", "/StopRequested/d;/TakenBack/d", journal)
        assert queue.recorded(cut, folder.name) == ["SupervisorStarted", "ProcessStarted"]
    attach(queue, folder)
    continues(queue, folder)


@on_two
def test_a_host_loses_power_under_a_launcher(queue: Queue) -> None:
    queue.start("lonely", *BORROWS, "--gpus", "4", command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    labs.wait_until(lambda: "gpu3" in witnesses(queue, "lonely"), "they have all they need", 30)
    there = queue.lab.hosts["gpu1"]
    there.write("/tmp/saves-long", b"")
    wanted_on(queue, "gpu2")
    queue.until_there("gpu1", folder.name, "StopRequested")
    there.power_cut()
    queue.until_there("gpu2", folder.name, "WaitsAgain")
    there.boot()
    continues(queue, folder)


@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_the_only_host_loses_power_as_it_gives_way(queue: Queue) -> None:
    """Whoever attaches has it wait there again, and is not needed after that."""
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    there = queue.lab.hosts["gpu1"]
    there.write("/tmp/saves-long", b"")
    wanted_on(queue, "gpu1")
    queue.until_there("gpu1", folder.name, "StopRequested")
    there.power_cut()
    there.boot()
    attach(queue, folder)
    queue.until_there("gpu1", folder.name, "WaitsOnHost")
    queue.started[-1].kill()
    continues(queue, folder, ("gpu1",))


@rare
@on_two
@pytest.mark.parametrize("asked", BOTH, ids=["leader", "other"])
def test_a_host_that_did_not_hear_of_it_gives_way_once_it_is_back(queue: Queue, asked: str) -> None:
    folder = borrower(queue, "--gpus", "4")
    here, far = queue.lab.hosts[asked], queue.lab.hosts["gpu2" if asked == "gpu1" else "gpu1"]
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    here.run("sh", "-c", "echo 2 >/proc/sys/net/ipv4/tcp_retries2")  # what it has said is soon lost
    here.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_orphan_retries")
    here.drop_packets(far.name)
    far.drop_packets(here.name)
    wanted_on(queue, asked)
    queue.until_there(asked, folder.name, "WaitsAgain")

    def is_lost() -> bool:
        lines = here.run("ss", "-Htan", "dst", far.address).stdout.decode().splitlines()
        return not [line for line in lines if not line.startswith("SYN-SENT")]

    labs.wait_until(is_lost, "the lines of the attempt before are gone", 120)
    here.unblock()
    far.unblock()
    queue.until_there(far.name, folder.name, "WaitsAgain")
    continues(queue, folder)


SMALL = tuple(replace(one, home_size="12M" if one.name == "gpu2" else None) for one in TWO_OF_THREE)


@pytest.mark.parametrize("own", [SMALL], indirect=True)
def test_a_disk_is_full_as_it_waits_again(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    full = queue.lab.hosts["gpu2"]
    full.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")
    wanted_on(queue, "gpu1")
    queue.until_there("gpu1", folder.name, "WaitsAgain")
    labs.wait_until(lambda: queue.order() == ["lonely"], "it waits again", 60)
    queue.let_go("owner")

    def is_told() -> bool:
        waiting = json.loads(queue.call("--json").stdout)["waiting"]
        return bool(waiting) and waiting[0]["full"] == ["gpu2"]

    labs.wait_until(is_told, "the queue tells why", 60)
    full.run("rm", "/root/ballast")
    continues(queue, folder)
    assert queue.recorded("gpu2", folder.name).count("WaitsAgain") == 1


@on_two
@pytest.mark.parametrize(
    "event",
    [
        "StopRequested",
        pytest.param("HostEnded", marks=rare),
        pytest.param("RunWaits", marks=rare),
        "BegunThere",
    ],
)
def test_its_launcher_is_killed_at_any_step(queue: Queue, event: str) -> None:
    queue.start("lonely", *BORROWS, "--gpus", "4", command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    labs.wait_until(lambda: "gpu3" in witnesses(queue, "lonely"), "they have all they need", 30)
    wanted_on(queue, "gpu2")
    if event == "BegunThere":
        queue.until("owner", "AllStarted")
        queue.let_go("owner")
    queue.until("lonely", event)
    kill_follower(folder)
    continues(queue, folder)


@rare
@on_two
def test_two_launchers_take_it_up_at_once(queue: Queue, tmp_path: Path) -> None:
    """And both have to let one of its hosts wait again, whose time to wait is over by far."""
    folder = waits_again(queue, "--wait", "1s")
    queue.lab.hosts["gpu1"].power_cut()
    queue.lab.hosts["gpu1"].boot()
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    inventory = str(queue.launcher.inventory)
    both = [
        queue.launcher.start_command("attach", folder.name),
        elsewhere.start_command("attach", "-i", inventory, folder.name),
    ]
    queue.started += both
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    queue.let_go("lonely")
    said = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    for host in BOTH:
        begun = [one for one in queue.journal(host, folder.name) if one["event"] == "BegunThere"]
        assert [one["attempt"] for one in begun] == [1]


@rare
@on_two
def test_clocks_that_differ_by_twenty_minutes(queue: Queue) -> None:
    queue.lab.hosts["gpu1"].set_clock(600)
    queue.lab.hosts["gpu2"].set_clock(-600)
    folder = waits_again(queue)
    continues(queue, folder)
    assert receipt(folder)["seconds"] < 600


@on_two
@pytest.mark.parametrize("moment", ["saving", "waiting"])
def test_who_stops_it_ends_it(queue: Queue, moment: str) -> None:
    folder = borrower(queue, "--gpus", "4")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    if moment == "saving":
        queue.lab.hosts["gpu1"].write("/tmp/saves-long", b"")
    wanted_on(queue, "gpu2")
    queue.until_there("gpu1", folder.name, "StopRequested" if moment == "saving" else "WaitsAgain")
    queue.until_there("gpu2", folder.name, "WaitsAgain")
    stopped = queue.launcher.call("stop", "--grace", "2s", folder.name)
    assert stopped.returncode == 0, stopped.stderr
    assert (receipt(folder)["status"], receipt(folder)["reason"]) == ("stopped", "by-user")
    assert queue.order() == []
    assert not witnesses(queue, "lonely")


@rare
@on_two
@pytest.mark.parametrize("is_back", [False, True], ids=["off", "back"])
def test_who_stops_it_has_stopped_it_whatever_has_no_power(queue: Queue, is_back: bool) -> None:
    """Nothing of it runs anywhere: so no host is lost with it."""
    folder = waits_again(queue)
    queue.lab.hosts["gpu1"].power_cut()
    if is_back:
        queue.lab.hosts["gpu1"].boot()
    queue.launcher.call("stop", "--grace", "1s", folder.name)
    assert (receipt(folder)["status"], receipt(folder)["reason"]) == ("stopped", "by-user")
    assert queue.order() == []


@rare
@on_two
def test_its_time_is_over_meanwhile(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4", "--time", "15s")
    over = time.monotonic() + 15
    wanted_on(queue, "gpu2")
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    labs.wait_until(lambda: time.monotonic() > over, "its time is over", 30)
    assert queue.order() == ["lonely"]
    queue.let_go("owner")
    queue.launcher.call("attach", folder.name)
    assert (receipt(folder)["status"], receipt(folder)["reason"]) == ("stopped", "time-limit")


@rare
@on_two
def test_who_tidies_up_leaves_it_alone(queue: Queue, tmp_path: Path) -> None:
    """A host that has rebooted has nothing but its folder, in which the checkpoint is."""
    folder = waits_again(queue)
    queue.lab.hosts["gpu1"].power_cut()
    queue.lab.hosts["gpu1"].boot()
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    there = ("-i", str(queue.launcher.inventory))
    for who in (queue.launcher, elsewhere):
        assert who.call("prune", "--older", "0s", "-y", *there).returncode == 0
    kept = queue.launcher.call("rm", "-y", folder.name)
    assert (kept.returncode, "still running there" in kept.stderr) == (1, True), kept.stderr
    assert witnesses(queue, "lonely") == ["gpu3"]
    attach(queue, folder)
    continues(queue, folder)
    logs = [*(folder / "logs" / "attempt-1").glob("*.out")]
    assert [log.read_text() for log in logs] == ["from step 7 attempt 1\n"] * 2


#: Does what `launcher ls` does, with more patience.
LIST = """
import launcher
client = launcher.Client()
client.refresh(60.0)
print({run.run: run.status for run in client.list()}[__import__("sys").argv[1]])
"""


@on_two
def test_it_is_listed_as_what_it_is(queue: Queue) -> None:
    """Nobody here has heard of it since it ran, and its hosts are asked."""
    folder = waits_again(queue)
    env = queue.launcher.environment()
    argv = [sys.executable, "-c", LIST, folder.name]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "waiting\n"
    continues(queue, folder)


@on_two
def test_its_store_has_what_it_wrote_while_it_waits_again(queue: Queue, tmp_path: Path) -> None:
    with object_store.running(tmp_path / "weed", queue.lab.address) as store:
        store.put("kept", {})
        queue.launcher.env |= store.environment
        to = ("--output-to", "s3://kept/runs")
        folder = borrower(queue, "--gpus", "4", *to, before="UrlsLeft")
        wanted_on(queue, "gpu2")
        for host in BOTH:
            assert stored_alone(queue.lab.hosts[host], folder) == (1, 0, "")
        continues(queue, folder)
        stored = receipt(folder)["stored"]
        assert (stored["whole"], set(stored["alone"])) == (True, {*BOTH})
        bucket = store.bucket("kept")
        assert not list(bucket.objects(f"runs/{folder.name}/.unattended/"))
