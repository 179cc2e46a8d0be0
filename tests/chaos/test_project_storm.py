"""A storm of runs of one project, with launchers that are killed and a host whose cable is pulled: its
quota is never exceeded, and every run that was not killed ends.

More of it: ``STORM_RUNS=40 STORM_SEED=7 pytest tests/chaos/test_project_storm.py``.
"""

from __future__ import annotations

import os
import random
import subprocess

import pytest

from support import lab as labs
from support.command import Launcher

RUNS = int(os.environ.get("STORM_RUNS", "5"))
#: Another one each time; a failure names it.
SEED = int(os.environ.get("STORM_SEED", os.getpid()))
HOSTS = (
    labs.HostSpec("gpu1", gpus=4),
    labs.HostSpec("gpu2", gpus=4),
    labs.HostSpec("gpu3", gpus=0),
)
QUOTA, LIMIT = 3, 4
PROJECTS = f"projects:\n  team-a: {{quota: {QUOTA}, limit: {LIMIT}, users: [root]}}\n"
#: Notes when it has its GPUs, and when it has them no more.
WORK = """
import os, sys, time
def note(sign):
    gpus = len(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    with open("/tmp/noted", "a") as file:
        file.write("%f %d %s\\n" % (time.time(), sign * gpus, sys.argv[2]))
note(1)
time.sleep(float(sys.argv[1]))
note(-1)
"""


@pytest.mark.timeout(90 + 20 * RUNS)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
@pytest.mark.slow
def test_no_project_has_more_than_it_may_whatever_breaks(own: labs.Lab, launcher: Launcher) -> None:
    dice = random.Random(SEED)
    launcher.inventory.write_text(labs.inventory(own, "python3") + PROJECTS)
    script = launcher.script(WORK)
    runs = [_start(launcher, dice, script) for _ in range(RUNS)]
    try:
        own.hosts["gpu3"].unplug()
        killed = dice.choice(runs)
        killed.kill()
        ended = [run.communicate(timeout=60 + 15 * RUNS)[1].decode() for run in runs]
        bad = [text for run, text in zip(runs, ended, strict=True)
               if run is not killed and run.returncode]  # fmt: skip
        assert not bad, f"seed {SEED}: {bad[0]}"
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    notes = [line.split() for name in ("gpu1", "gpu2") for line in _noted(own.hosts[name])]
    for kinds, most in ((("firm",), QUOTA), (("firm", "soft"), LIMIT)):
        used, seen = 0, [(float(at), int(gpus)) for at, gpus, kind in notes if kind in kinds]
        for _, gpus in sorted(seen):
            used += gpus
            assert used <= most, f"seed {SEED}: {kinds} had {used} of {most}"


def _start(launcher: Launcher, dice: random.Random, script: str) -> subprocess.Popen[bytes]:
    soft = dice.random() < 0.4
    more = ("--preemptible",) if soft else ()
    gpus = dice.choice([1, 1, 2, 3])
    seconds = round(dice.uniform(0.2, 1.5), 2)
    kind = "soft" if soft else "firm"
    words = ("--framework", "env", "--wait", "forever", "--project", "team-a", "--nodes", "1")
    command = f"python3 {script} {seconds} {kind}"
    return launcher.start(*words, *more, "--gpus", str(gpus), command)


def _noted(host: labs.LabHost) -> list[str]:
    return host.run("cat", "/tmp/noted", check=False).stdout.decode().splitlines()
