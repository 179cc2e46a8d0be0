"""A run that waits on one host is started by that host, whatever becomes of its launcher."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import FRAMEWORK, KILL_HOLDER, TERMINATE_HOLDER, Queue

ONE = (labs.HostSpec("gpu1", gpus=4),)
TELL = "import os\nprint('has', os.environ['CUDA_VISIBLE_DEVICES'])\n"


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """One host, all of whose GPUs the run "first" holds."""
    made = Queue(own, launcher)
    launcher.script(TELL, "tell.py")
    try:
        made.start("first", "--gpus", "4")
        made.until("first", "AllStarted")
        yield made
    finally:
        made.close()


def detached(queue: Queue, name: str, *words: str, command: str = "python3 tell.py") -> Path:
    """Start a run that waits on the host, and kill its follower; return its folder."""
    where = "gpu1, which starts it"
    return queue.detached(name, "--gpus", "2", *words, where=where, command=command)


def moment(queue: Queue, run: str, event: str) -> float:
    """Wait until the host has recorded an event, and return when it was."""
    return float(queue.until_there("gpu1", run, event)["time"])


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_it_begins_with_nobody_in_touch(queue: Queue, tmp_path: Path) -> None:
    """The cable is pulled when its turn comes; attach shows every byte, and what it was given. Who looked
    from another machine has changed nothing."""
    host = queue.lab.hosts["gpu1"]
    command = "python3 tell.py && seq 20000 && touch $LAUNCHER_OUTPUT_DIR/made"
    folder = detached(queue, "second", command=command)
    shown = queue.call().stdout
    assert re.search(r"1  second-\w+ +root +2 +gpu1 +\S+ \S+ +- +its host +in use by", shown), shown
    (first,) = queue.launcher.home.glob("runs/first-*")
    elsewhere = Launcher(queue.launcher.inventory, queue.launcher.work, tmp_path / "elsewhere")
    looking = elsewhere.start_command("attach", "-i", str(elsewhere.inventory), folder.name)
    queue.started.append(looking)
    records = elsewhere.home / "runs" / folder.name / "events.jsonl"
    labs.wait_until(
        lambda: records.exists() and "RunWaits" in records.read_text(), "a look from elsewhere", 60
    )
    looking.kill()
    host.unplug()
    queue.let_go("first")
    begun = moment(queue, folder.name, "BegunThere")
    assert begun - moment(queue, first.name, "HostEnded") < 30, "nobody looks only now and then"
    moment(queue, folder.name, "HostEnded")
    host.plug()
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    lines = [line.partition("│ ")[2] for line in attached.stdout.splitlines() if "│" in line]
    assert lines == ["has 0,1", *map(str, range(1, 20001))]
    assert (folder / "outputs" / "made").exists() or list(folder.glob("outputs/**/made"))
    assert json.loads((folder / "plan.json").read_text())["nodes"][0]["gpus"] == [0, 1]


@pytest.mark.parametrize("end", [KILL_HOLDER, TERMINATE_HOLDER], ids=["kill", "reboot"])
@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_it_waits_again_when_its_supervisor_has_died(queue: Queue, end: str) -> None:
    """It is neither lost nor started twice, by a kill or a power cut, before and after its turn."""
    host = queue.lab.hosts["gpu1"]
    folder = detached(queue, "second")
    third = queue.start("third", "--gpus", "3")
    queue.until("third", "RunWaits")
    host.run("python3", "-c", end, "wait/second-")
    labs.wait_until(lambda: queue.order() == ["third"], "second has no ticket", 60)
    attached = queue.launcher.start_command("attach", "second")
    queue.started.append(attached)
    labs.wait_until(lambda: queue.order() == ["second", "third"], "second is back", 60)
    host.power_cut()
    host.boot()
    queue.let_go("third")  # either may be the first that is back
    out, err = attached.communicate(timeout=90)
    said = re.search(rb"has \d,\d\n", out)  # any two: those of the third one may be free one by one
    assert (attached.returncode, said is not None) == (0, True), (out, err)
    assert third.wait(60) in (0, 125), "it waits, or was started and cut off"
    assert queue.recorded("gpu1", folder.name).count("BegunThere") == 1


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_it_leaves_the_queue_when_it_is_stopped_or_has_waited_long_enough(queue: Queue) -> None:
    host = queue.lab.hosts["gpu1"]
    stopped = detached(queue, "stopped")
    queue.launcher.call("ls")  # follows it again
    labs.wait_until(
        lambda: (
            queue.launcher.call("queue", "move", "stopped", "--priority", "low").returncode == 0
        ),
        "somebody follows it",
        60,
    )
    given_up = detached(queue, "given-up", "--wait", "20s")  # its follower is killed before that
    assert moment(queue, given_up.name, "HostEnded")
    ended = queue.launcher.call("attach", "given-up")
    assert (ended.returncode, "the time to wait is over" in ended.stderr) == (75, True)
    (waiting,) = json.loads(queue.call("--json").stdout)["waiting"]
    assert (waiting["run"], waiting["priority"], waiting["by_itself"]) == (stopped.name, -1, True)
    done = queue.launcher.call("stop", "stopped")
    assert done.returncode == 0, done.stderr
    assert queue.order() == []
    for run in (stopped, given_up):
        assert not host.exists(f"/root/.launcher/host/runs/{run.name}"), "nothing is left"
    failed = queue.launcher.run(
        "--wait", "forever", "--gpus", "1", *FRAMEWORK, "--setup", "exit 3", "true"
    )
    assert failed.code == 3, "it learns that before it waits"
