"""Runs wait for GPUs that are in use, in one order, and begin when these are free."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import FRAMEWORK, KILL_HOLDER, LONG_SETUP, TAKE, Queue

TWO = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("gpu2", gpus=4))


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Any:
    made = Queue(own, launcher)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_run_waits_its_turn_and_begins_with_the_code_of_its_start(queue: Queue) -> None:
    first = queue.start("first", "--gpus", "8")
    queue.until("first", "AllStarted")
    queue.launcher.script("print('old')\n", "say.py")
    second = queue.start("second", "--gpus", "8", command="python3 say.py")
    told = queue.until("second", "RunWaits")
    assert (told["place"], told["why"]) == (1, "busy")
    assert re.fullmatch(r"first-.+", told["runs"][0])
    queue.launcher.script("print('new')\n", "say.py")
    queue.let_go("first")
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert b"old" in out and b"new" not in out
    assert b"waiting for GPUs: number 1 of 1, in use by root (first-" in err
    first.communicate(timeout=60)
    ended = queue.until("first", "HostEnded")["time"]
    begun = queue.until("second", "AllStarted")["time"]
    assert begun - ended < 20, "on a busy machine; on an idle one it is a fraction of a second"


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_large_run_gets_its_turn_and_only_what_ends_in_time_passes_it(queue: Queue) -> None:
    queue.start("first", "--hosts", "gpu1", "--gpus", "4", "--time", "1h")
    queue.until("first", "AllStarted")
    gang = queue.start("gang", "--gpus", "8")
    told = queue.until("gang", "RunWaits")
    assert told["latest"] - told["time"] == pytest.approx(3600, abs=60), "as first ends by itself"
    queue.start("later", "--gpus", "2", "--time", "2h")
    told = queue.until("later", "RunWaits")
    assert (told["place"], told["waiting"], told["why"]) == (2, 2, "behind")
    assert told["runs"][0].startswith("gang-")
    queue.start("brief", "--gpus", "2", "--time", "10m")
    queue.until("brief", "AllStarted")
    queue.start("urgent", "--gpus", "8", "--priority", "high")
    assert queue.until("urgent", "RunWaits")["place"] == 1
    shown = json.loads(queue.call("--json").stdout)
    assert (shown["gpus"], shown["free"]) == (8, 2)
    assert {one["run"].partition("-")[0]: one["gpus"] for one in shown["holding"]} == {
        "first": {"gpu1": [0, 1, 2, 3]}, "brief": {"gpu2": [0, 1]},
    }  # fmt: skip
    assert queue.order() == ["urgent", "gang", "later"]
    urgent = queue.call().stdout
    assert re.search(
        r"1  urgent-\w+ +root +2x4 +gpu\[1-2\] .* high priority, in use by root", urgent
    )
    queue.call("move", "later", "--first")
    labs.wait_until(
        lambda: queue.until("gang", "RunWaits")["place"] == 3, "later is before gang", 60
    )
    queue.call("move", "later", "--priority", "low")
    labs.wait_until(lambda: queue.until("later", "RunWaits")["place"] == 3, "the last place", 60)
    queue.let_go("first", "brief")
    queue.until("urgent", "AllStarted")
    assert not [one for one in queue.events("gang") if one["event"] == "AllStarted"]
    queue.let_go("urgent")
    queue.until("gang", "AllStarted")
    queue.let_go("gang")
    queue.until("later", "AllStarted")
    gang.communicate(timeout=60)


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_run_with_unequal_parts_begins_when_there_is_room_for_them(queue: Queue) -> None:
    """Its parts have their hosts when somebody is quicker, and all GPUs are free in the end: also those
    that would have had the larger part first."""
    gpu1, gpu2 = queue.lab.hosts["gpu1"], queue.lab.hosts["gpu2"]
    queue.start("small", "--hosts", "gpu1", "--gpus", "2")
    queue.until("small", "AllStarted")
    words = ("--gpus", "6", "--setup", LONG_SETUP)
    wide = queue.start("wide", *words, command="echo has $CUDA_VISIBLE_DEVICES")
    for host in (gpu1, gpu2):
        labs.wait_until(lambda host=host: host.exists("/tmp/in-setup"), "its setup", 60)
    gpu2.write("/tmp/take.py", TAKE)
    gpu2.spawn("python3", "/tmp/take.py")
    labs.wait_until(lambda: gpu2.exists("/tmp/taken"), "the lock", 60)
    for host in (gpu1, gpu2):
        host.write("/tmp/setup-go", b"")
    queue.until("wide", "RunWaits")
    queue.let_go("small")
    queue.until("small", "HostEnded")
    gpu2.run("pkill", "-9", "-f", "take.py")
    out, err = wide.communicate(timeout=60)
    assert wide.returncode == 0, err
    assert sorted(line.split()[-1] for line in out.decode().splitlines()) == ["0,1", "0,1,2,3"]


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_whoever_stops_waiting_leaves_nothing_and_keeps_nobody_waiting(queue: Queue) -> None:
    queue.start("first", "--gpus", "8")
    queue.until("first", "AllStarted")
    at_once = queue.launcher.run("--no-wait", "--gpus", "1", *FRAMEWORK, "true")
    assert (at_once.code, "all 8 GPUs are in use" in at_once.err) == (75, True)
    script = queue.launcher.run("--gpus", "1", *FRAMEWORK, "true")
    assert script.code == 75, "without a terminal nobody would see it wait"
    started = time.monotonic()
    given_up = queue.launcher.run("--wait", "1s", "--gpus", "1", *FRAMEWORK, "true")
    assert (given_up.code, "the time to wait is over" in given_up.err) == (75, True), given_up.err
    assert time.monotonic() - started > 1
    few = ("--master-port", "29500-29505")
    killed = queue.start("killed", "--gpus", "4", *few)  # without ports to meet at, by its launcher
    queue.until("killed", "RunWaits")
    stopped = queue.start("stopped", "--gpus", "8")
    queue.until("stopped", "RunWaits")
    ended = queue.start("ended", "--gpus", "8")
    queue.until("ended", "RunWaits")
    last = queue.start("last", "--gpus", "8")
    assert queue.until("last", "RunWaits")["place"] == 4
    shown = queue.launcher.call("ls").stdout
    assert len(re.findall(r"(killed|stopped|ended|last)-\w+ +waiting", shown)) == 4, shown
    killed.kill()
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, err
    assert queue.launcher.call("stop", "ended").returncode == 0
    ended.communicate(timeout=60)
    assert ended.returncode == 130
    labs.wait_until(lambda: queue.until("last", "RunWaits")["place"] == 1, "the first place", 60)
    (name,) = [path.name for path in queue.launcher.home.glob("runs/stopped-*")]
    for host in queue.lab.hosts.values():
        assert not host.exists(f"/root/.launcher/host/runs/{name}"), "its code is gone"
    queue.let_go("first", "last")
    _, err = last.communicate(timeout=60)
    assert last.returncode == 0, err


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_lost_connection_keeps_the_place_and_a_restart_the_gpus(queue: Queue) -> None:
    """Who waits is behind a run that starts again, and returns to its own place."""
    fails_once = (
        "import os, pathlib, sys, time\n"
        "mark = pathlib.Path('/tmp/failed')\n"
        "while not pathlib.Path('/tmp/fail').exists():\n    time.sleep(0.02)\n"
        "if not mark.exists():\n    mark.touch()\n    sys.exit(1)\n"
        "while not pathlib.Path('/tmp/first').exists():\n    time.sleep(0.02)\n"
    )
    name = queue.launcher.script(fails_once)
    first = queue.start(
        "first", "--hosts", "gpu1", "--gpus", "4", "--max-restarts", "1", command=f"python3 {name}"
    )
    queue.until("first", "AllStarted")
    second = queue.start("second", "--hosts", "gpu1", "--gpus", "4")
    queue.until("second", "RunWaits")
    third = queue.start("third", "--hosts", "gpu1", "--gpus", "4")
    assert queue.until("third", "RunWaits")["place"] == 2
    host = queue.lab.hosts["gpu1"]
    host.run("python3", "-c", KILL_HOLDER, "wait/second-")
    labs.wait_until(lambda: queue.order() == ["second", "third"], "second is back", 60)
    host.write("/tmp/fail", b"")
    queue.until("first", "RunRestarted")
    labs.wait_until(
        lambda: sum(one["event"] == "AllStarted" for one in queue.events("first")) == 2,
        "a restart",
        60,
    )
    queue.let_go("first")
    assert first.wait(60) == 0
    queue.until("second", "AllStarted")
    queue.let_go("second", "third")
    assert second.wait(60) == third.wait(60) == 0


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_run_ends_when_its_time_is_over(queue: Queue) -> None:
    """Its hosts end it, whether its launcher lives or not, and outputs come back."""
    ended = queue.launcher.run(
        "--gpus", "8", "--time", "1s", "--max-restarts", "3", *FRAMEWORK,
        "trap 'echo saved > $LAUNCHER_OUTPUT_DIR/it; exit 3' TERM; while :; do sleep 0.1; done",
    )  # fmt: skip
    receipt = ended.receipt
    assert (ended.code, receipt["status"], receipt["reason"]) == (125, "stopped", "time-limit")
    assert "its time limit was over" in ended.err
    assert receipt["outputs"]


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_sweep_waits_its_turn_and_d_returns_while_a_run_waits(queue: Queue) -> None:
    queue.start("first", "--gpus", "8")
    queue.until("first", "AllStarted")
    name = queue.launcher.script("print('a trial')\n")
    inventory = ("-i", str(queue.launcher.inventory))
    detached = queue.launcher.call(
        "run",
        *inventory,
        "-d",
        "--wait",
        "forever",
        "--gpus",
        "8",
        "--name",
        "detached",
        "--framework",
        "torch",
        name,
    )
    assert detached.returncode == 0, detached.stderr
    assert "waits for its turn on gpu[1-2], which start it together" in detached.stderr
    attached = queue.launcher.start_command("attach", "detached")
    sweep = queue.launcher.start_command(
        "sweep",
        *inventory,
        "--gpus",
        "8",
        "--name",
        "trial",
        "--framework",
        "torch",
        name,
        "--lr",
        "[1, 2]",
    )
    queue.started += [attached, sweep]
    queue.until("trial", "RunWaits")
    queue.let_go("first")
    out, err = attached.communicate(timeout=60)
    assert (attached.returncode, b"a trial" in out) == (0, True), err
    _, err = sweep.communicate(timeout=90)
    assert (sweep.returncode, b"waits    lr=1: " in err) == (0, True), err


SHARED = (labs.HostSpec("gpu1", gpus=2, own_name=""),)
#: Holds a ticket for both GPUs that nobody renews, one with nonsense, and one that stands still.
MALLORY = """
import socket, time
kept = []
for name in ("wait/evil/n.zz.0.0.1.9x9999", "wait/evil/l.1.0.0.1.1x2", "wait/" + "x" * 60):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind("\\0launcher/" + name)
open("/tmp/mallory", "w").close()
time.sleep(1000)
"""


@pytest.mark.parametrize("own", [SHARED], indirect=True)
def test_two_users_wait_for_each_other(own: labs.Lab, launcher: Launcher, tmp_path: Path) -> None:
    """Whose a ticket is, the kernel says; that of a third one is nonsense, or has its place and no more."""
    (host,) = own.hosts.values()
    for user in ("u2", "mallory"):
        host.add_user(user, "not needed")
    host.let_in("u2", own.identity_file.with_suffix(".pub").read_bytes())
    host.write("/srv/mallory.py", MALLORY.encode())
    host.spawn("runuser", "-u", "mallory", "--", "/usr/bin/python3", "/srv/mallory.py")
    labs.wait_until(lambda: host.exists("/tmp/mallory"), "mallory", 30)
    (tmp_path / "u2").mkdir()
    one = Queue(own, launcher)
    two = Queue(own, Launcher(tmp_path / "u2.yaml", tmp_path / "u2", tmp_path / "home of u2"))
    text = two.launcher.inventory.read_text().replace("user: root", "user: u2")
    two.launcher.inventory.write_text(text.replace('"python3"', '"/usr/bin/python3"'))
    try:
        one.start("first", "--gpus", "2")
        one.until("first", "AllStarted")
        second = two.start("second", "--gpus", "1")
        told = two.until("second", "RunWaits")
        assert (told["place"], set(told["users"].values())) == (1, {"root"})
        third = one.start("third", "--gpus", "2")
        assert one.until("third", "RunWaits")["place"] == 2
        one.let_go("first")
        two.until("second", "AllStarted")
        labs.wait_until(
            lambda: set(one.until("third", "RunWaits")["users"].values()) == {"u2"}, "u2", 60
        )
        two.let_go("second", "third")
        assert (second.wait(60), third.wait(60)) == (0, 0)
    finally:
        one.close()
        two.close()


ROLES = """
framework: env
roles:
  actor: {replicas: 2, resources: {gpus: 1}, run: python3 hold.py roles}
  learner: {resources: {gpus: 4}, run: python3 hold.py roles}
"""
#: Takes the lock of a GPU without a ticket, as programs of other versions do.
SNIPER = """
import socket, time
one = socket.socket(socket.AF_UNIX)
one.bind("\\0launcher/gpu/0")
one.listen()
open("/tmp/sniper", "w").close()
time.sleep(1000)
"""


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_roles_and_named_gpus_wait_and_no_wait_passes_nobody(queue: Queue) -> None:
    """What they wait for is kept for them, and all other GPUs are given to whoever comes."""
    host = queue.lab.hosts["gpu1"]
    queue.start("first", "--hosts", "gpu1", "--gpus", "3")
    queue.until("first", "AllStarted")
    queue.launcher.script(ROLES, "roles.yaml")
    named = queue.start("named", "--hosts", "gpu1", "--gpu-ids", "2,1")
    told = queue.until("named", "RunWaits")
    assert (told["why"], told["runs"][0].partition("-")[0]) == ("busy", "first")
    roles = queue.launcher.start("--wait", "forever", "--name", "roles", "roles.yaml")
    queue.started.append(roles)
    assert queue.until("roles", "RunWaits")["place"] == 2
    beside = queue.launcher.run("--no-wait", "--hosts", "gpu1", "--gpus", "1", *FRAMEWORK, "true")
    assert (beside.code, "came earlier" in beside.err) == (75, True), beside.err
    queue.let_go("first")
    queue.until("named", "AllStarted")
    queue.let_go("named")
    queue.until("roles", "AllStarted")
    queue.let_go("roles")
    out, err = named.communicate(timeout=60)
    assert (named.returncode, b"has 2,1" in out) == (0, True), err
    _, err = roles.communicate(timeout=60)
    assert roles.returncode == 0, err
    late = queue.start(
        "late", "--no-wait", "--hosts", "gpu1", "--gpus", "1", "--setup",
        "touch /tmp/set; while ! test -e /tmp/set-up; do sleep 0.1; done",
    )  # fmt: skip
    labs.wait_until(lambda: host.exists("/tmp/set"), "setup", 60)
    host.write("/srv/sniper.py", SNIPER.encode())
    host.spawn("python3", "/srv/sniper.py")
    labs.wait_until(lambda: host.exists("/tmp/sniper"), "the sniper", 30)
    queue.start("urgent", "--hosts", "gpu1", "--gpus", "4", "--priority", "high")
    queue.until("urgent", "RunWaits")
    host.write("/tmp/set-up", b"")
    _, err = late.communicate(timeout=60)
    assert (late.returncode, b"came earlier" in err) == (75, True), err


THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2) for n in (1, 2, 3))


@pytest.mark.parametrize("own", [THREE], indirect=True)
@pytest.mark.parametrize("is_back", [True, False], ids=["back", "gone"])
def test_a_connection_that_breaks_before_the_run_is_in_the_queue_ends_no_run(
    queue: Queue, is_back: bool
) -> None:
    """It is made again. Without its host, the run goes on if it can."""
    queue.occupy(queue.lab.hosts)
    broken, last = queue.lab.hosts["gpu2"], queue.lab.hosts["gpu3"]
    last.freeze_sshd()
    words = ("--hosts", "gpu1,gpu2,gpu3", "--nodes", "3") if is_back else ()
    second = queue.start("second", "--gpus", "6" if is_back else "2", *words)

    def connected() -> list[str]:
        return [one["host"] for one in queue.events("second") if one["event"] == "HostConnected"]

    labs.wait_until(lambda: {*connected()} == {"gpu1", "gpu2"}, "only gpu3 is missing", 60)
    if not is_back:
        broken.stop_sshd()
    broken.kill_sshd_sessions()
    last.thaw_sshd()
    labs.wait_until(
        lambda: second.poll() is not None or "RunWaits" in str(queue.events("second")),
        "it waits, or ends",
        60,
    )
    assert second.poll() is None, second.communicate()
    assert connected().count("gpu2") == 1 + is_back
    queue.let_go("on-gpu1", "on-gpu2", "on-gpu3", "second")
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
