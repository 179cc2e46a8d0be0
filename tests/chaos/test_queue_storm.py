"""A storm of runs that wait for each other, some killed and some restarted: no GPU is had by two, each run
ends, and nothing is left. More of it: ``STORM_RUNS=60 STORM_SEED=7 pytest tests/chaos/test_queue_storm.py``.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

RUNS = int(os.environ.get("STORM_RUNS", "6"))
#: Another one each time; a failure names it.
SEED = int(os.environ.get("STORM_SEED", os.getpid()))
HOSTS = tuple(labs.HostSpec(f"gpu{number}", gpus=4) for number in (1, 2))
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
        ended = [run.communicate(timeout=30 + 10 * RUNS)[1].decode() for run in runs]
        codes = [run.returncode for run in runs if run is not victim]
        assert set(codes) == {0}, f"STORM_SEED={SEED}\n" + "\n".join(ended)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    for host in own.hosts.values():
        assert not host.exists("/tmp/had-by-two"), f"STORM_SEED={SEED}"
        labs.wait_until(
            lambda host=host: not _sockets(host), "a host without locks and tickets", 60
        )


def _start(
    launcher: Launcher, dice: random.Random, number: int, script: str
) -> subprocess.Popen[bytes]:
    """Start a run; the third one needs all GPUs."""
    gpus = 8 if number == 2 else dice.choice([1, 1, 2, 4, 6])
    fails = dice.random() < 0.3
    words = ["--time", "5m"] if dice.random() < 0.5 else []
    words += ["--max-restarts", "1"] if fails else []
    seconds = dice.uniform(0.1, 1.0)
    time.sleep(dice.uniform(0.0, 0.3))  # they come one after the other
    return launcher.start(
        "--wait", "forever", "--gpus", str(gpus), "--framework", "env", *words,
        f"python3 {script} {number} {seconds:.2f} {fails}",
    )  # fmt: skip


def _sockets(host: labs.LabHost) -> list[str]:
    """Return the names of locks and tickets that are held on a host."""
    text = Path(f"/proc/{host.pid}/net/unix").read_text()
    return [line for line in text.splitlines() if "@launcher/" in line]
