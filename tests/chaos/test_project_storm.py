"""Storms of runs of one project, with launchers and witnesses that are killed and hosts whose cables are
pulled: its quota is never exceeded, and every run that was not killed ends.

More of it: ``STORM_RUNS=60 STORM_SEED=7 pytest tests/chaos/test_project_storm.py``.
"""

from __future__ import annotations

import os
import random
import subprocess
import time

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
    _require_quota(own, QUOTA, LIMIT)


def _require_quota(lab: labs.Lab, quota: int, limit: int) -> None:
    """Fail where the project had more than it may, by what its runs have noted."""
    notes = [line.split() for host in lab.hosts.values() for line in _noted(host)]
    assert notes, "no run has begun"
    for kinds, most in ((("firm",), quota), (("firm", "soft"), limit)):
        used, seen = 0, [(float(at), int(gpus)) for at, gpus, kind in notes if kind in kinds]
        for _, gpus in sorted(seen):
            used += gpus
            assert used <= most, f"seed {SEED}: {kinds} had {used} of {most}"


#: Three hosts have GPUs, and five decide.
FIVE = tuple(labs.HostSpec(f"gpu{n}", gpus=4 if n < 4 else 0) for n in (1, 2, 3, 4, 5))
#: Runs that are followed at once: each takes a process of its own.
AT_ONCE = 10
#: Lets go of its GPUs when nothing owns it any more.
OWNED = """
import os, sys, time
def note(sign):
    gpus = len(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    with open("/tmp/noted", "a") as file:
        file.write("%f %d %s\\n" % (time.time(), sign * gpus, sys.argv[2]))
def parent(pid):
    with open("/proc/%d/stat" % pid) as file:
        return int(file.read().rpartition(")")[2].split()[1])
owners = [os.getppid()]
while parent(owners[-1]) > 1:
    owners.append(parent(owners[-1]))
note(1)
until = time.time() + float(sys.argv[1])
while time.time() < until and all(os.path.exists("/proc/%d" % pid) for pid in owners):
    time.sleep(0.01)
note(-1)
"""


@pytest.mark.timeout(180 + 30 * RUNS)
@pytest.mark.parametrize("own", [FIVE], indirect=True)
@pytest.mark.slow
def test_hosts_keep_a_quota_whatever_breaks(own: labs.Lab, launcher: Launcher) -> None:
    """Some runs are left to hosts, and some need their launchers. Witnesses, leaders and launchers are
    killed, and cables pulled."""
    dice, quota = random.Random(SEED), 6
    projects = f"projects:\n  team-a: {{quota: {quota}, limit: 8, users: [root]}}\n"
    launcher.inventory.write_text(labs.inventory(own, "python3") + projects)
    script = launcher.script(OWNED)
    runs: list[subprocess.Popen[bytes]] = []
    killed: set[subprocess.Popen[bytes]] = set()
    try:
        while len(runs) < RUNS or any(run.poll() is None for run in runs):
            alive = [run for run in runs if run.poll() is None]
            if len(runs) < RUNS and len(alive) < AT_ONCE:
                runs.append(_start_in_storm(launcher, dice, script))
            elif victim := _break(own, dice, alive if len(runs) < RUNS else []):
                killed.add(victim)
            time.sleep(dice.uniform(0.0, 0.5))
        bad = [
            run.communicate()[1].decode() for run in runs if run.returncode and run not in killed
        ]
        assert not bad, f"seed {SEED}: {bad[0]}"
        launcher.call("ls")  # follows those whose launchers were killed
        for host in own.hosts.values():
            labs.wait_until(lambda host=host: not _left(host), f"{host.name} is let go of", 120)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    _require_quota(own, quota, 8)


def _break(
    lab: labs.Lab, dice: random.Random, alive: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes] | None:
    """Break something, or nothing; return the launcher that was killed."""
    what, host = dice.random(), lab.hosts[dice.choice([*lab.hosts])]
    if what < 0.2:
        host.run("python3", "-c", KILL_ANY, "witness/", check=False)
    elif what < 0.25:
        host.run("python3", "-c", KILL_ANY, "wait/", ".s", check=False)
    elif what < 0.3 and alive:
        victim = dice.choice(alive)
        victim.kill()
        return victim
    elif what < 0.4:
        host = lab.hosts[dice.choice(["gpu4", "gpu5"])]  # runs on several hosts have to meet
        for other in lab.hosts:
            if other != host.name:
                host.drop_packets(other)
        time.sleep(dice.uniform(0.1, 5.0))
        host.unblock()
    return None


#: Kills a process that holds a socket of such a name, which has a field like the second argument.
KILL_ANY = """
import glob, os, sys
mark, field = sys.argv[1], (sys.argv[2:] or [""])[0]
names = [line.split() for line in open("/proc/net/unix") if "/" + mark in line]
inodes = sorted(one[6] for one in names if one[5] == "01" and field in one[7].rpartition("/")[2])
for fd in glob.glob("/proc/[0-9]*/fd/*") if inodes else ():
    try:
        if os.readlink(fd) == "socket:[%s]" % inodes[0]:
            os.kill(int(fd.split("/")[2]), 9)
    except OSError:
        pass
"""


def _left(host: labs.LabHost) -> list[str]:
    """Return the sockets of runs on a host that are neither over nor begun."""
    text = host.run("cat", "/proc/net/unix").stdout.decode()
    return [line for line in text.splitlines() if "/wait/" in line or "/witness/" in line]


def _start_in_storm(
    launcher: Launcher, dice: random.Random, script: str
) -> subprocess.Popen[bytes]:
    soft = dice.random() < 0.3
    words = ["--framework", "env", "--wait", "forever", "--project", "team-a"]
    words += ["--preemptible"] if soft else []
    words += ["--master-port", "29500-29505"] if dice.random() < 0.3 else []
    nodes = dice.choice([1, 1, 2])
    words += ["--nodes", str(nodes), "--gpus", str(nodes * dice.choice([1, 2]))]
    kind = "soft" if soft else "firm"
    return launcher.start(*words, f"python3 {script} {dice.uniform(5.0, 20.0):.2f} {kind}")


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
