"""Storms of everything that waits, at once: runs on one host, on hosts of their choice, on all, elastic ones, and
runs of projects that borrow and give back; most of them left to hosts. Launchers, supervisors, witnesses and
relays are killed, hosts lose power and cables, and their clocks differ.

No GPU is had by two and no attempt begins twice, projects keep their quotas, all that waits says why, each
run ends, and nothing is left.

More of it: ``STORM_RUNS=40 STORM_SEED=7 pytest tests/chaos/test_mixed_storm.py``.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.records.run_lock import holder
from support import lab as labs
from support.command import Launcher, kill_follower

RUNS = int(os.environ.get("STORM_RUNS", "6"))
#: Another one each time; a failure names it.
SEED = int(os.environ.get("STORM_SEED", os.getpid()))
#: Four have GPUs, and five decide about projects.
HOSTS = tuple(labs.HostSpec(f"gpu{n}", gpus=4 if n < 5 else 0) for n in (1, 2, 3, 4, 5))
QUOTA, LIMIT = 6, 8
PROJECTS = f"""
projects:
  team-a: {{quota: {QUOTA}, limit: {LIMIT}, users: [root], min_runtime: 0s}}
  team-b: {{quota: 2, users: [root], min_runtime: 2s}}
"""
#: How a run may end whose launcher, or whose hosts, were lost before it was in the queue.
NOT_BEGUN = ("unreachable", "connection-lost", "launcher-died")
#: Once one of these is recorded, no launcher is needed any more.
THEIRS = ("WaitsOnHost", "AllStarted")
#: Launchers at once.
AT_ONCE = 12
#: Locks its GPUs in a way of its own, and notes for how long it had them until whatever ended it.
WORK = """
import fcntl, os, sys, time
name, seconds, kind = sys.argv[1:]
if os.environ.get("LOCAL_RANK", "0") != "0":
    time.sleep(float(seconds))
    sys.exit()
os.makedirs("/var/tmp/storm", exist_ok=True)
os.chdir("/var/tmp/storm")
def wrong(*what):
    open("wrong", "a").write(" ".join(map(str, what)) + "\\n")
begun = time.monotonic()
attempt, rank = os.environ["LAUNCHER_ATTEMPT"], os.environ["LAUNCHER_NODE_RANK"]
gpus = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
held = []
for gpu in gpus:
    held.append(open("gpu-" + gpu, "a+"))
    try:
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        wrong(name, attempt, "has GPU", gpu, "of another")
beat = ".".join(["beat", name, attempt, rank])
if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun begins again by itself
    beat += ".%d" % os.getpid()
try:
    beating = os.open(beat, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
except OSError:
    wrong(name, attempt, "begins twice as rank", rank)
    beating = os.open(beat + ".again", os.O_CREAT | os.O_WRONLY)
print("has", *gpus, flush=True)
while True:
    now = time.monotonic()
    os.pwrite(beating, ("%.3f %.3f %d %s\\n" % (begun, now, len(gpus), kind)).encode(), 0)
    if now > begun + float(seconds):
        break
    time.sleep(0.05)
"""


@dataclass
class Storm:
    """What is under way."""

    lab: labs.Lab
    launcher: Launcher
    dice: random.Random
    script: str
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)
    mending: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    #: Hosts that lost power, and runs of which something was killed.
    hurt: set[str] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)

    def tell(self, what: str) -> None:
        """Note what was done, for who reads of a failure."""
        self.told.append(f"{time.monotonic() - self.began:6.1f} {what}")
        if os.environ.get("STORM_TOLD"):
            with open(os.environ["STORM_TOLD"], "a") as file:
                file.write(self.told[-1] + "\n")

    def later(self, seconds: float, mend: Callable[[], object]) -> None:
        """Mend what was broken after so many seconds."""
        self.mending.append((time.monotonic() + seconds, mend))

    def mend(self, *, all_of_it: bool = False) -> None:
        """Mend what is due."""
        now = time.monotonic()
        due = [one for one in self.mending if all_of_it or one[0] <= now]
        self.mending = [one for one in self.mending if one not in due]
        for _, mend in due:
            mend()

    @property
    def folders(self) -> list[Path]:
        """Those of runs that were recorded: a launcher that is killed before that has begun nothing."""
        return sorted(file.parent for file in (self.launcher.home / "runs").glob("*-*/run.json"))

    def up(self) -> list[labs.LabHost]:
        return [host for host in self.lab.hosts.values() if not host.is_off]


@pytest.fixture
def storm(own: labs.Lab, launcher: Launcher) -> Iterator[Storm]:
    launcher.inventory.write_text(labs.inventory(own, sys.executable) + PROJECTS)
    dice = random.Random(SEED)
    for host, offset in zip(
        own.hosts.values(), dice.sample([-600, 0, 0, 300, 600], 5), strict=True
    ):
        if offset:
            host.set_clock(offset)
    made = Storm(own, launcher, dice, launcher.script(WORK))
    try:
        yield made
    finally:
        for run in made.runs:
            run.kill()
            run.communicate()


@pytest.mark.timeout(300 + 40 * RUNS)
@pytest.mark.parametrize("own", [HOSTS], indirect=True)
def test_everything_that_waits_ends_whatever_breaks(storm: Storm) -> None:
    dice = storm.dice
    while len(storm.runs) < RUNS:
        alive = [run for run in storm.runs if run.poll() is None]
        if len(alive) < AT_ONCE:
            _start(storm)
        if dice.random() < 0.6:
            _break(storm)
        if dice.random() < 0.1:
            _ask(storm)
        storm.mend()
        time.sleep(dice.uniform(0.0, 1.5))
    storm.mend(all_of_it=True)
    storm.tell("all is mended")
    _finish(storm)
    _require_all_well(storm)


def _start(storm: Storm) -> None:
    """Start a run of some kind."""
    dice, number = storm.dice, len(storm.runs)
    seconds = dice.choice([dice.uniform(0.5, 4.0), dice.uniform(4.0, 20.0)])
    kind = dice.choice(["plain"] * 3 + ["a-firm"] * 2 + ["a-soft", "b-firm", "b-soft", "b-soft"])
    words = {
        "plain": [],
        "a-firm": ["--project", "team-a"],
        "a-soft": ["--project", "team-a", "--preemptible"],
        "b-firm": ["--project", "team-b"],
        "b-soft": ["--project", "team-b", "--preemptible"],
    }[kind]
    most = {"plain": 16, "a-firm": QUOTA, "a-soft": LIMIT, "b-firm": 2, "b-soft": 8}[kind]
    shape = dice.choice(["one", "one", "choice", "choice", "free", "gang", "elastic"])
    framework = "env"
    command = f"python3 {storm.script}"
    if shape == "one":
        gpus = min(most, dice.choice([1, 2, 4]))
        words += ["--hosts", dice.choice(["gpu1", "gpu2", "gpu3", "gpu4"]), "--gpus", str(gpus)]
    elif shape == "choice":
        nodes = dice.choice([1, 2, 3])
        gpus = nodes * dice.choice([1, 2, 4])
        gpus = gpus if gpus <= most else nodes if nodes <= most else 1
        words += ["--nodes", str(min(nodes, gpus)), "--gpus", str(gpus)]
    elif shape == "free":
        words += ["--gpus", str(min(most, dice.choice([1, 2, 3, 5, 6])))]
    elif shape == "gang":
        words += ["--gpus", str(most)]
    else:
        share = 1 if most < 6 else dice.choice([1, 2])
        large = min(3, most // share)
        words += ["--nodes", f"1:{large}", "--gpus", str(share * large)]
        words += ["--nproc-per-node", str(share), "--max-restarts", "2"]
        framework, command = "torchrun", storm.script
    words += ["--time", "10m"] if dice.random() < 0.5 else []
    words += ["--priority", "high"] if dice.random() < 0.1 else []
    words += ["--master-port", "29500-29505"] if dice.random() < 0.1 else []
    words += ["--grace", "2s"]
    detached = dice.random() < 0.5
    words += ["-d"] if detached else []
    command = f"{command} r{number} {seconds:.2f} {kind}"
    words = ["--framework", framework, "--wait", "forever", "--name", f"r{number}", *words, command]
    storm.tell("start " + " ".join(words))
    storm.runs.append(storm.launcher.start(*words))


#: Kills a process that holds a socket of such a name.
KILL_HOLDER = """
import glob, os, sys
names = [line.split() for line in open("/proc/net/unix") if "@launcher/" + sys.argv[1] in line]
found = sorted(one[6] for one in names if one[5] == "01")
inode = found[int(sys.argv[2]) % len(found)] if found else ""
print([one[7] for one in names if one[6] == inode])
for fd in glob.glob("/proc/[0-9]*/fd/*") if inode else ():
    try:
        if os.readlink(fd) == "socket:[%s]" % inode:
            os.kill(int(fd.split("/")[2]), 9)
    except OSError:
        pass
"""


def _break(storm: Storm) -> None:
    """Break something."""
    dice = storm.dice
    host, fault = dice.choice(storm.up()), dice.choice(FAULTS)
    storm.tell(f"{fault.__name__} {host.name}")
    fault(storm, host)


def _kill_holder(storm: Storm, host: labs.LabHost, what: str) -> None:
    which = str(storm.dice.randrange(100))
    done = host.run(sys.executable, "-c", KILL_HOLDER, what, which, check=False)
    killed = done.stdout.decode()
    storm.hurt |= set(re.findall(r"r\d+-\w+", killed))
    storm.tell(f"  killed {killed.strip()}")


def _kill_waiting(storm: Storm, host: labs.LabHost) -> None:
    _kill_holder(storm, host, "wait/")


def _kill_witness(storm: Storm, host: labs.LabHost) -> None:
    _kill_holder(storm, host, "witness/")


def _kill_any_holder(storm: Storm, host: labs.LabHost) -> None:
    _kill_holder(storm, host, "")


def _kill_relay(storm: Storm, host: labs.LabHost) -> None:
    pids = [
        one.pid for one in host.processes() if "relay" in one.argv and "RANK" not in one.environ
    ]
    if pids:
        host.run("kill", "-9", str(storm.dice.choice(pids)), check=False)


def _kill_launcher(storm: Storm, host: labs.LabHost) -> None:
    alive = [run for run in storm.runs if run.poll() is None]
    if alive:
        storm.dice.choice(alive).kill()


def _kill_follower(storm: Storm, host: labs.LabHost) -> None:
    there = [one for one in storm.folders if not (one / "receipt.json").exists()]
    for folder in storm.dice.sample(there, min(1, len(there))):
        storm.tell(f"  of {folder.name}")
        with suppress(OSError, ValueError):
            kill_follower(folder)


def _kill_all_followers(storm: Storm, host: labs.LabHost) -> None:
    for folder in storm.folders:
        if not (folder / "receipt.json").exists() and '"HostConnected"' in _events(folder):
            with suppress(OSError, ValueError):
                kill_follower(folder)


def _events(folder: Path) -> str:
    file = folder / "events.jsonl"
    return file.read_text() if file.exists() else ""


def _cut_power(storm: Storm, host: labs.LabHost) -> None:
    if len(storm.up()) > 4:  # one at a time
        host.power_cut()
        storm.hurt.add(host.name)
        storm.later(storm.dice.uniform(1.0, 15.0), host.boot)


def _unplug(storm: Storm, host: labs.LabHost) -> None:
    host.unplug()
    storm.later(storm.dice.uniform(0.5, 40.0), lambda: host.is_off or host.plug())


def _part(storm: Storm, host: labs.LabHost) -> None:
    """Hosts lose each other, while this machine reaches all."""
    for other in storm.dice.sample([*storm.lab.hosts], storm.dice.choice([1, 2])):
        if other != host.name:
            host.drop_packets(other)
    storm.later(storm.dice.uniform(0.5, 40.0), lambda: host.is_off or host.unblock())


def _lose_launcher(storm: Storm, host: labs.LabHost) -> None:
    host.drop_packets()
    storm.later(storm.dice.uniform(0.5, 40.0), lambda: host.is_off or host.unblock())


def _kill_sessions(storm: Storm, host: labs.LabHost) -> None:
    host.kill_sshd_sessions()


FAULTS = (
    *(_kill_waiting, _kill_waiting, _kill_witness, _kill_any_holder, _kill_relay, _kill_launcher),
    *(_kill_launcher, _kill_follower, _kill_follower, _cut_power, _unplug, _part, _lose_launcher),
    *(_kill_sessions, _kill_all_followers, _cut_power),
)


def _ask(storm: Storm) -> None:
    """Ask for the queue: everybody who waits says why."""
    words = ("queue", "-i", str(storm.launcher.inventory), "--json")
    done = storm.launcher.call(*words, timeout=60)
    if done.returncode:
        storm.tell(f"queue: {done.returncode} {done.stderr}")
        return
    for one in json.loads(done.stdout)["waiting"]:
        storm.tell(f"  waits {one}")
        assert one["why"] or one["place"] == 0, one


def _finish(storm: Storm) -> None:
    """Wait for all runs; follow those whose launchers were killed."""
    until, attached = time.monotonic() + 180 + 20 * RUNS, set[str]()
    while time.monotonic() < until:
        done = storm.launcher.call("ls", "--json", timeout=120)
        storm.tell(f"ls {done.returncode} {done.stderr.strip()}")
        left = [one.name for one in storm.folders if not (one / "receipt.json").exists()]
        if not left and all(run.poll() is not None for run in storm.runs):
            return
        _ask(storm)
        storm.tell(f"left: {left}")
        for name in left if time.monotonic() - storm.began > 60 else []:
            if name not in attached and holder(storm.launcher.home / "runs" / name) is None:
                attached.add(name)
                storm.runs.append(storm.launcher.start_command("attach", name))
        time.sleep(3)


def _require_all_well(storm: Storm) -> None:
    wrong: list[str] = []
    for folder in storm.folders:
        file = folder / "receipt.json"
        if not file.exists():
            wrong.append(f"{folder.name} has not ended")
            continue
        receipt = json.loads(file.read_text())
        ended = f"{folder.name} {receipt['status']} {receipt['reason']}"
        storm.tell(ended)
        of_run = {folder.name, *(host["host"] for host in receipt["hosts"])}
        is_theirs = any(event in _events(folder) for event in THEIRS)
        is_excused = bool(of_run & storm.hurt) or (not is_theirs and receipt["reason"] in NOT_BEGUN)
        if receipt["status"] != "succeeded" and not is_excused:
            wrong.append(ended)
    for folder in storm.folders:  # a witness that could not be told of the end goes with its run
        if any(f"/witness/{folder.name}/" in one for host in storm.up() for one in _left(host)):
            storm.tell(f"a witness of {folder.name} is left")
            storm.launcher.call("rm", "--yes", folder.name)
    for host in storm.lab.hosts.values():
        text = host.run("sh", "-c", "cat /var/tmp/storm/wrong || true").stdout.decode()
        wrong += [f"{host.name}: {line}" for line in text.splitlines()]
        with suppress(labs.LabError):
            labs.wait_until(lambda host=host: not _left(host), "nothing is left", 20)
        wrong += [f"{host.name}: left {one}" for one in _left(host)]
    wrong += _beyond_quota(storm) + _twice(storm)
    storm.tell("wrong:\n  " + "\n  ".join(wrong))
    assert not wrong, f"STORM_SEED={SEED}\n" + "\n".join([*storm.told, *wrong])


def _left(host: labs.LabHost) -> list[str]:
    text = Path(f"/proc/{host.pid}/net/unix").read_text()
    found = [line.split()[-1] for line in text.splitlines() if "@launcher/" in line]
    return found + [str(one) for one in host.processes() if "LAUNCHER_RUN_ID" in one.environ]


def _beats(storm: Storm) -> list[tuple[str, str, float, float, int, str]]:
    """Return host, name, begin, end, GPUs and kind of all that has run."""
    found = []
    for host in storm.lab.hosts.values():
        done = host.run("sh", "-c", "cd /var/tmp/storm && head -n1 -v beat.* || true")
        name = ""
        for line in done.stdout.decode().splitlines():
            if line.startswith("==> "):
                name = line.split()[1]
            elif len(line.split()) == 4:
                begun, ended, gpus, kind = line.split()
                found.append((host.name, name, float(begun), float(ended), int(gpus), kind))
    return found


def _beyond_quota(storm: Storm) -> list[str]:
    wrong, beats = [], _beats(storm)
    rules = ((("a-firm",), QUOTA), (("a-firm", "a-soft"), LIMIT), (("b-firm",), 2))
    for kinds, most in rules:
        there = [one for one in beats if one[5] in kinds]
        for one in there:
            at_once = [other for other in there if other[2] <= one[2] <= other[3]]
            if sum(other[4] for other in at_once) > most:
                wrong.append(f"{kinds} had more than {most}: {at_once}")
    return wrong


def _twice(storm: Storm) -> list[str]:
    """Return runs of which two hosts were the same rank."""
    seen: dict[str, str] = {}
    wrong = []
    for host, name, *_ in _beats(storm):
        is_elastic = name.count(".") > 3
        if not is_elastic and seen.setdefault(name, host) != host:
            wrong.append(f"{name} is on {host} and {seen[name]}")
    return wrong
