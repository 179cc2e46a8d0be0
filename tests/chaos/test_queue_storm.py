"""A storm of runs that wait for each other, some killed and some restarted, on some of the hosts: no GPU is
had by two, each run ends, the one that needs all GPUs begins before those that come later, and nothing
is left.

More of it: ``STORM_RUNS=100 STORM_HOSTS=4 STORM_SEED=7 pytest tests/chaos/test_queue_storm.py``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import KILL_HOLDER

RUNS = int(os.environ.get("STORM_RUNS", "6"))
#: Another one each time; a failure names it.
SEED = int(os.environ.get("STORM_SEED", os.getpid()))
HOSTS = tuple(
    labs.HostSpec(f"gpu{number + 1}", gpus=4)
    for number in range(int(os.environ.get("STORM_HOSTS", "2")))
)
NAMES = [host.name for host in HOSTS]
#: The run that needs all GPUs.
GANG = 2
#: Locks its GPUs in a way of its own, works for a while, and fails once if it is to.
WORK = """
import fcntl, os, sys, time
held = []
for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
    held.append(open("/tmp/truth-" + gpu, "a+"))
    try:
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        open("/tmp/had-by-two", "a").write(sys.argv[1] + " " + gpu + "\\n")
if os.environ["RANK"] == "0":
    with open("/tmp/begun-" + sys.argv[1], "a") as begun:
        begun.write(str(time.time()) + "\\n")
time.sleep(float(sys.argv[2]))
mark = "/tmp/failed-" + sys.argv[1]
if sys.argv[3] == "True" and os.environ["RANK"] == "0" and not os.path.exists(mark):
    open(mark, "w").close()
    sys.exit(3)
"""


@pytest.mark.timeout(60 + 20 * RUNS)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_a_storm_ends_and_no_gpu_is_had_by_two(own: labs.Lab, launcher: Launcher) -> None:
    dice = random.Random(SEED)
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    script = launcher.script(WORK)
    runs = [_start(launcher, dice, number, script) for number in range(RUNS)]
    try:
        victim = dice.choice(runs[2:])
        victim.kill()
        _kill_a_waiting_supervisor(own)  # its launcher lets the run wait again
        ended = [run.communicate(timeout=30 + 10 * RUNS)[1].decode() for run in runs]
        bad = [
            text
            for run, text in zip(runs, ended, strict=True)
            if run is not victim and run.returncode
        ]
        if len(bad) == 1 and "supervisor-died" in bad[0]:
            bad = []  # it was killed as it began
        assert not bad, f"STORM_SEED={SEED}\n" + "\n".join(bad)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    begun = _begun(own)
    assert {*range(RUNS)} - {runs.index(victim)} <= {*begun}
    if GANG in begun:
        asked, when = _submitted(launcher)
        passed = [n for n, at in when.items() if at > asked and begun.get(n, 9e9) < begun[GANG]]
        assert not passed, f"STORM_SEED={SEED}: {passed} came later, and began before {GANG}"
    for host in own.hosts.values():
        assert not host.exists("/tmp/had-by-two"), f"STORM_SEED={SEED}"
        labs.wait_until(
            lambda host=host: not _sockets(host), "a host without locks and tickets", 60
        )


def _start(
    launcher: Launcher, dice: random.Random, number: int, script: str
) -> subprocess.Popen[bytes]:
    """Start a run of a few GPUs, or of all."""
    gpus = 4 * len(HOSTS) if number == GANG else dice.choice([1, 1, 2, 4, 6])
    where = dice.choice(NAMES) if gpus <= 4 and dice.random() < 0.5 else ",".join(NAMES)
    fails = dice.random() < 0.3
    words = ["--time", "5m"] if dice.random() < 0.5 else []
    words += ["--max-restarts", "1"] if fails else []
    seconds = dice.uniform(0.1, 1.0)
    time.sleep(dice.uniform(0.0, 0.3))  # they come one after the other
    return launcher.start(
        "--wait", "forever", "--gpus", str(gpus), "--hosts", where, "--framework", "env", *words,
        f"python3 {script} {number} {seconds:.2f} {fails}",
    )  # fmt: skip


def _begun(lab: labs.Lab) -> dict[int, float]:
    """Return when each run began first, by its number."""
    found: dict[int, float] = {}
    for host in lab.hosts.values():
        listed = host.run(
            "bash", "-c", "head -qn1 /tmp/begun-* /dev/null; ls /tmp | grep begun-; true"
        )
        lines = listed.stdout.decode().split()
        for at, name in zip(lines, lines[len(lines) // 2 :], strict=False):
            number = int(name.removeprefix("begun-"))
            found[number] = min(float(at), found.get(number, 9e9))
    return found


def _submitted(launcher: Launcher) -> tuple[float, dict[int, float]]:
    """Return when the gang had its place in the queue, and when each run was submitted."""
    asked, when = 9e9, {}
    for folder in (launcher.home / "runs").iterdir():
        words = " ".join(json.loads((folder / "run.json").read_text())["job"]["run"]).split()
        number = int(words[-3])
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        when[number] = events[0]["time"]
        if number == GANG:
            waits = [one["time"] for one in events if one["event"] == "RunWaits"]
            asked = min(waits, default=9e9)
    return asked, when


def _kill_a_waiting_supervisor(lab: labs.Lab) -> None:
    """Kill the holder of a ticket of a run that its host would start, if there is one now."""
    for host in lab.hosts.values():
        names = [line.rpartition("@launcher/")[2] for line in _sockets(host)]
        for name in names:
            if name.startswith("wait/") and name.endswith(".s"):
                host.run("python3", "-c", KILL_HOLDER, name, check=False)
                return


def _sockets(host: labs.LabHost) -> list[str]:
    """Return the names of locks and tickets that are held on a host."""
    text = Path(f"/proc/{host.pid}/net/unix").read_text()
    return [line for line in text.splitlines() if "@launcher/" in line]
