"""Something breaks while a run gives its GPUs back, or waits again, with nobody in touch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support import object_store
from support.borrowing import (
    BORROWS,
    COUNTS,
    ONE_OF_THREE,
    OWNS,
    PROJECTS,
    TWO_OF_THREE,
    borrower,
    until_attempt,
    witnesses,
)
from support.command import Launcher, kill_follower
from support.unattended import stored_alone
from support.waiting import Queue

BOTH = ("gpu1", "gpu2")


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


def ends_well(queue: Queue, folder: Path) -> str:
    """Let the run end, and return what who attaches sees."""
    queue.let_go("lonely")
    done = queue.launcher.call("attach", folder.name)
    assert done.returncode == 0, done.stderr
    assert not witnesses(queue, "lonely")
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["saving", "saving-forgotten", "saved"])
@pytest.mark.parametrize("cut", BOTH, ids=["leader", "other"])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_a_host_loses_power_as_it_gives_way(queue: Queue, cut: str, moment: str) -> None:
    """It boots again, and who attaches lets the run continue. A disk may have lost the last records."""
    folder = borrower(queue, "--gpus", "4")
    there, other = queue.lab.hosts[cut], "gpu2" if cut == "gpu1" else "gpu1"
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    if moment != "saved":
        there.write("/tmp/saves-long", b"")
    queue.start("owner", "--gpus", "2", "--hosts", other, *OWNS)
    queue.until_there(cut, folder.name, "WaitsAgain" if moment == "saved" else "StopRequested")
    there.power_cut()
    queue.until_there(other, folder.name, "WaitsAgain")
    there.boot()
    if moment == "saving-forgotten":
        journal = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
        there.run("sed", "-i", "/StopRequested/d;/TakenBack/d", journal)
        assert queue.recorded(cut, folder.name) == ["SupervisorStarted", "ProcessStarted"]
    attached = queue.launcher.start_command("attach", folder.name)
    queue.started.append(attached)
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_a_host_loses_power_under_a_launcher(queue: Queue) -> None:
    queue.start("lonely", *BORROWS, "--gpus", "4", command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    labs.wait_until(lambda: "gpu3" in witnesses(queue, "lonely"), "they have all they need", 30)
    queue.lab.hosts["gpu1"].write("/tmp/saves-long", b"")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    queue.until_there("gpu1", folder.name, "StopRequested")
    queue.lab.hosts["gpu1"].power_cut()
    queue.until_there("gpu2", folder.name, "WaitsAgain")
    queue.lab.hosts["gpu1"].boot()
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [ONE_OF_THREE], indirect=True)
def test_the_only_host_loses_power_as_it_gives_way(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "2")
    until_attempt(queue, "gpu1", folder.name, 0)
    queue.lab.hosts["gpu1"].write("/tmp/saves-long", b"")
    owner = queue.start("owner", "--gpus", "2", *OWNS)
    queue.until_there("gpu1", folder.name, "StopRequested")
    queue.lab.hosts["gpu1"].power_cut()
    queue.lab.hosts["gpu1"].boot()
    attached = queue.launcher.start_command("attach", folder.name)
    queue.started.append(attached)
    queue.let_go("owner")
    until_attempt(queue, "gpu1", folder.name, 1)
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("asked", BOTH, ids=["leader", "other"])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_a_host_that_does_not_hear_that_the_run_gives_way(queue: Queue, asked: str) -> None:
    folder = borrower(queue, "--gpus", "4")
    other = "gpu2" if asked == "gpu1" else "gpu1"
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    queue.lab.hosts[asked].drop_packets(other)
    queue.lab.hosts[other].drop_packets(asked)
    queue.start("owner", "--gpus", "2", "--hosts", asked, *OWNS)
    queue.until_there(asked, folder.name, "WaitsAgain")
    labs.wait_until(lambda: False or True, "", 1)
    import time

    time.sleep(40)
    queue.lab.hosts[asked].unblock()
    queue.lab.hosts[other].unblock()
    queue.let_go("owner")
    queue.until_there(other, folder.name, "WaitsAgain")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)


SMALL = tuple(replace(one, home_size="12M" if one.name == "gpu2" else None) for one in TWO_OF_THREE)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [SMALL], indirect=True)
def test_a_disk_is_full_as_it_waits_again(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    full = queue.lab.hosts["gpu2"]
    full.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu1", *OWNS)
    queue.until_there("gpu1", folder.name, "WaitsAgain")
    labs.wait_until(lambda: queue.order() == ["lonely"], "it waits again", 60)
    queue.let_go("owner")

    def is_told() -> bool:
        waiting = json.loads(queue.call("--json").stdout)["waiting"]
        print(waiting)
        return bool(waiting) and waiting[0]["full"] == ["gpu2"]

    labs.wait_until(is_told, "the queue tells why", 60)
    full.run("rm", "/root/ballast")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    print(full.read(f"/root/.launcher/host/runs/{folder.name}/journal.jsonl").decode())
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize(
    "event",
    [
        "StopRequested",
        "ProcessExited",
        "HostEnded",
        "WaitsAgain",
        "OutputsPulled",
        "RunWaits",
        "BegunThere",
        "AllStarted",
    ],
)
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_its_launcher_is_killed_at_any_step(queue: Queue, event: str) -> None:
    queue.start("lonely", *BORROWS, "--gpus", "4", command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    labs.wait_until(lambda: "gpu3" in witnesses(queue, "lonely"), "they have all they need", 30)
    before = len(queue.events("lonely"))
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    if event in ("BegunThere", "AllStarted"):
        queue.until("lonely", "WaitsAgain")
        queue.until("owner", "AllStarted")
        queue.let_go("owner")
    until_new(queue, event, before)
    kill_follower(folder)
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)


def until_new(queue: Queue, event: str, before: int) -> None:
    labs.wait_until(
        lambda: any(one["event"] == event for one in queue.events("lonely")[before:]), event, 60
    )


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_two_launchers_take_it_up_at_once(queue: Queue, tmp_path: Path) -> None:
    folder = borrower(queue, "--gpus", "4")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
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
    for out, err in said:
        print(out.decode(), err.decode())
    assert [one.returncode for one in both] == [0, 0]
    for host in BOTH:
        begun = [one for one in queue.journal(host, folder.name) if one["event"] == "BegunThere"]
        assert [one["attempt"] for one in begun] == [1]


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_clocks_differ(queue: Queue) -> None:
    queue.lab.hosts["gpu1"].set_clock(600)
    queue.lab.hosts["gpu2"].set_clock(-600)
    folder = borrower(queue, "--gpus", "4")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)
    print((folder / "receipt.json").read_text())
    print(queue.launcher.call("show", folder.name).stdout)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["saving", "waiting"])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_who_stops_it_ends_it(queue: Queue, moment: str) -> None:
    folder = borrower(queue, "--gpus", "4")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 0)
    if moment == "saving":
        queue.lab.hosts["gpu1"].write("/tmp/saves-long", b"")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    queue.until_there("gpu1", folder.name, "StopRequested" if moment == "saving" else "WaitsAgain")
    queue.until_there("gpu2", folder.name, "WaitsAgain")
    stopped = queue.launcher.call("stop", folder.name)
    print(stopped.stdout, stopped.stderr)
    assert stopped.returncode == 0, stopped.stderr
    assert queue.order() == []
    receipt = json.loads((folder / "receipt.json").read_text())
    print(receipt)
    assert (receipt["status"], receipt["reason"]) == ("stopped", "by-user")
    assert not witnesses(queue, "lonely")


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_its_time_is_over_meanwhile(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4", "--time", "20s")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    import time

    time.sleep(20)
    print(queue.call().stdout)
    queue.let_go("owner")
    done = queue.launcher.call("attach", folder.name)
    print(done.stdout, done.stderr)
    receipt = json.loads((folder / "receipt.json").read_text())
    print(receipt)
    assert receipt["reason"] == "time-limit"


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_who_tidies_up_leaves_it_alone(queue: Queue, tmp_path: Path) -> None:
    folder = borrower(queue, "--gpus", "4")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    queue.lab.hosts["gpu1"].power_cut()
    queue.lab.hosts["gpu1"].boot()
    there = ("-i", str(queue.launcher.inventory))
    elsewhere = replace(queue.launcher, home=tmp_path / "elsewhere")
    elsewhere.call("ls")
    for who, words in (
        (queue.launcher, ["prune", "--older", "0s", "-y", *there]),
        (elsewhere, ["prune", "--older", "0s", "-y", *there]),
        (queue.launcher, ["rm", "-y", folder.name]),
    ):
        done = who.call(*words)
        print(words, done.returncode, done.stdout, done.stderr)
    print(queue.launcher.call("ls").stdout)
    queue.let_go("owner")
    attached = queue.launcher.start_command("attach", folder.name)
    queue.started.append(attached)
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)
    logs = [*(folder / "logs" / "attempt-1").glob("*.out")]
    assert [log.read_text() for log in logs] == ["from step 7 attempt 1\n"] * 2


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_ls(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    labs.wait_until(lambda: queue.order() == ["lonely"], "it waits again", 60)
    for n in range(3):
        done = queue.launcher.call("ls")
        print(done.stdout, done.stderr)
    queue.let_go("owner")
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_its_store_has_what_it_wrote_while_it_waits_again(queue: Queue, tmp_path: Path) -> None:
    with object_store.running(tmp_path / "weed", queue.lab.address) as store:
        store.put("kept", {})
        queue.launcher.env |= store.environment
        folder = borrower(queue, "--gpus", "4", "--output-to", "s3://kept/runs", before="UrlsLeft")
        queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
        for host in BOTH:
            assert stored_alone(queue.lab.hosts[host], folder) == (1, 0, "")
        queue.let_go("owner")
        for host in BOTH:
            until_attempt(queue, host, folder.name, 1)
        queue.let_go("lonely")
        done = queue.launcher.call("attach", folder.name)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr
        bucket = store.bucket("kept")
        print([one.key for one in bucket.objects(f"runs/{folder.name}/")])
        assert not list(bucket.objects(f"runs/{folder.name}/.unattended/"))


#: Listens at each of these ports as soon as nobody else does.
GRABS = """
import socket, sys, time
left, held = [int(word) for word in sys.argv[1:]], []
open("/tmp/grabs", "w").close()
while True:
    for port in list(left):
        made = socket.socket()
        try:
            made.bind(("", port))
            made.listen()
        except OSError:
            made.close()
            continue
        held.append(made)
        left.remove(port)
"""


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_nobody_gets_the_port_at_which_its_hosts_meet(queue: Queue) -> None:
    folder = borrower(queue, "--gpus", "4")
    leader = queue.lab.hosts["gpu1"]
    listening = leader.run("ss", "-Htln").stdout.decode().splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in listening} - {"22"}
    leader.spawn("python3", "-c", GRABS, *sorted(ports))
    labs.wait_until(lambda: leader.exists("/tmp/grabs"), "somebody wants the ports", 30)
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    queue.let_go("owner")
    for host in BOTH:
        until_attempt(queue, host, folder.name, 1)
    ends_well(queue, folder)


@pytest.mark.timeout(300)
@pytest.mark.slow
@pytest.mark.parametrize("is_back", [False, True])
@pytest.mark.parametrize("own", [TWO_OF_THREE], indirect=True)
def test_who_stops_it_while_a_host_is_off(queue: Queue, is_back: bool) -> None:
    folder = borrower(queue, "--gpus", "4")
    queue.start("owner", "--gpus", "2", "--hosts", "gpu2", *OWNS)
    for host in BOTH:
        queue.until_there(host, folder.name, "WaitsAgain")
    queue.lab.hosts["gpu1"].power_cut()
    if is_back:
        queue.lab.hosts["gpu1"].boot()
    stopped = queue.launcher.call("stop", folder.name)
    print(stopped.stdout, stopped.stderr)
    receipt = json.loads((folder / "receipt.json").read_text())
    print(receipt)
    assert queue.order() == []
    assert receipt["status"] == "stopped"
