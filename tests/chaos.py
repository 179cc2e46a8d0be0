"""Real training on real hosts, a fault at a random moment, then the hosts' own word on what is left.

    python tests/chaos.py [--rounds N] [--seed S] [--faults NAME...] [--light]

Not responsible for the hosts (tests/lab.py). Each round prints one line; at the end a table in
Markdown. The exit code is the number of rounds in which anything was lost, left or untrue.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab as labs

ROOT = Path(__file__).parent.parent
SPECS = tuple(labs.HostSpec(f"h{n}", interface=f"eth{n}", gpus=2, home_size="30M") for n in (1, 2))
#: The environment that runs this, with torch: read-only on every host.
SHARE = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
#: Seconds that training goes on by itself, and within which a fault comes.
TRAINING = 6.0
#: Seconds after which a host that is gone is given up, and after which it ends its run by itself.
LOST_AFTER, LEASE = "12s", "10s"

TRAIN = """
import os, pathlib, sys, time
rank, seconds, light = int(os.environ["RANK"]), float(sys.argv[1]), len(sys.argv) > 2
outputs = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
step = 0
if not light:
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    weights = torch.zeros(1000)
print("begun", flush=True)
end = time.monotonic() + seconds
while True:
    if not light:
        more = torch.tensor(float(time.monotonic() < end))
        dist.broadcast(more, 0)
        if not more:
            break
        gradient = torch.randn(1000)
        dist.all_reduce(gradient)
        weights += gradient
    elif time.monotonic() > end:
        break
    step += 1
    print("rank", rank, "step", step, "x" * 50, flush=True)
    if step % 20 == 0:
        (outputs / f"checkpoint-{rank}.txt").write_text(str(step))
    time.sleep(0.02)
if not light:
    dist.destroy_process_group()
print("done", step)
"""


@dataclass
class Round:
    """One run and its fault: what is known while it lasts."""

    lab: labs.Lab
    home: Path
    work: Path
    dice: random.Random
    process: subprocess.Popen[bytes]
    log: Path
    gone: set[str] = field(default_factory=set)  # hosts that will not come back in time
    stopped: bool = False

    @property
    def host(self) -> labs.LabHost:
        """The one that the fault meets: drawn once."""
        names = sorted(self.lab.hosts)
        return self.lab.hosts[names[self.dice_of_host % len(names)]]

    dice_of_host: int = 0

    @property
    def folder(self) -> Path:
        """The run's folder here."""
        (folder,) = (self.home / "runs").iterdir()
        return folder

    def pids(self, wanted: Callable[[labs.Process], bool]) -> list[int]:
        """Processes of the host that the fault meets."""
        return [process.pid for process in self.host.processes() if wanted(process)]

    def kill(self, pids: list[int]) -> None:
        """kill -9 on that host."""
        if pids:
            self.host.run("kill", "-9", *map(str, pids), check=False)


def _power_cut(now: Round) -> None:
    now.gone.add(now.host.name)
    now.host.power_cut()


def _cable_for_long(now: Round) -> None:
    now.gone.add(now.host.name)
    now.host.unplug()


def _cable_for_a_moment(now: Round) -> None:
    now.host.unplug()
    time.sleep(now.dice.uniform(0.5, 4.0))
    now.host.plug()


def _frozen_sshd(now: Round) -> None:
    now.host.freeze_sshd()
    now.host.kill_sshd_sessions()
    time.sleep(now.dice.uniform(0.5, 3.0))
    now.host.thaw_sshd()


def _is_rank(process: labs.Process) -> bool:
    return "RANK" in process.environ and "LAUNCHER_RUN_ID" in process.environ


def _kill_supervisor(now: Round) -> None:
    ranks = now.pids(_is_rank)
    parents = {
        now.host.run("sh", "-c", f"cut -d' ' -f4 /proc/{pid}/stat", check=False).stdout.strip()
        for pid in ranks
    }
    now.kill([int(pid) for pid in parents if pid])


def _kill_relay(now: Round) -> None:
    newest = now.pids(lambda p: "relay" in p.argv and not _is_rank(p))
    now.kill(newest[:1])


def _kill_launcher(now: Round) -> None:
    now.process.kill()


def _ctrl_c(now: Round) -> None:
    now.stopped = True
    now.process.send_signal(signal.SIGINT)
    if now.dice.random() < 0.3:
        time.sleep(now.dice.uniform(0, 0.5))
        now.process.send_signal(signal.SIGINT)


def _disk_full(now: Round) -> None:
    now.host.run("sh", "-c", "cat /dev/zero >/root/ballast 2>/dev/null; true")


#: What may come of each fault, besides what comes when it is too late.
FAULTS: dict[str, tuple[Callable[[Round], object], set[str]]] = {
    "power cut": (_power_cut, {"lost"}),
    "cable pulled for good": (_cable_for_long, {"lost", "stopped"}),
    "cable pulled for seconds": (_cable_for_a_moment, {"succeeded"}),
    "20 % packet loss": (lambda now: now.host.loss(20), {"succeeded"}),
    "link of 1 Mbit/s": (lambda now: now.host.slow(1), {"succeeded"}),
    "sshd sessions killed": (lambda now: now.host.kill_sshd_sessions(), {"succeeded"}),
    "sshd frozen": (_frozen_sshd, {"succeeded"}),
    "kill -9 of the launcher": (_kill_launcher, {"succeeded"}),
    "kill -9 of a supervisor": (_kill_supervisor, {"lost", "failed"}),
    "kill -9 of a relay": (_kill_relay, {"succeeded"}),
    "kill -9 of a rank": (lambda now: now.kill(now.pids(_is_rank)[:1]), {"failed"}),
    "disk full on a host": (_disk_full, {"failed", "succeeded"}),
    "Ctrl-C": (_ctrl_c, {"stopped"}),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a round. ``wrong`` is empty when all is as it must be; times in seconds."""

    fault: str
    status: str
    wrong: tuple[str, ...]
    to_end: float


def play(lab: labs.Lab, fault: str, seed: int, light: bool, scratch: Path) -> Outcome:
    """One round. Raises LabError when the lab itself fails."""
    dice = random.Random(seed)
    now = _begin(lab, dice, light, scratch)
    break_it, allowed = FAULTS[fault]
    late = False
    try:
        time.sleep(dice.uniform(0.0, TRAINING * 0.8))
        late = now.process.poll() is not None
        struck = time.monotonic()
        break_it(now)
        _wait(now)
        late = late or _was_over(now, before=struck - time.monotonic() + time.time())
        to_end = time.monotonic() - struck
        _heal(lab, now)
        if not (now.folder / "receipt.json").exists():
            _attach(now)
        return Outcome(
            fault, *_judge(lab, now, allowed | ({"succeeded"} if late else set())), to_end
        )
    finally:
        now.process.kill()
        now.process.communicate()
        _heal(lab, now)


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "LAUNCHER_HOME": str(home), "PYTHONPATH": str(ROOT)}


def _begin(lab: labs.Lab, dice: random.Random, light: bool, scratch: Path) -> Round:
    work, home = scratch / "work", scratch / "home"
    work.mkdir(parents=True)
    (work / "train.py").write_text(TRAIN)
    inventory = scratch / "inventory.yaml"
    inventory.write_text(labs.inventory(lab, sys.executable))
    argv = [sys.executable, "-m", "launcher", "run", "-i", str(inventory), "--gpus", "4"]
    argv += ["--nodes", "2", "--framework", "torch", "--grace", "2s", "--lost-after", LOST_AFTER]
    argv += ["--lease", LEASE, "--pull-every", "2s", "train.py", str(TRAINING)]
    with open(scratch / "screen", "wb") as screen:
        process = subprocess.Popen(
            argv + (["light"] if light else []),
            cwd=work,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    logs = list(range(4))

    def begun() -> bool:
        found = [home.glob(f"runs/*/logs/attempt-0/rank-{rank}.out") for rank in logs]
        texts = [file.read_bytes() for files in found for file in files]
        if process.poll() is not None:
            raise labs.LabError((scratch / "screen").read_text())
        return len(texts) == 4 and all(b"begun" in text for text in texts)

    labs.wait_until(begun, "training to begin", 90)
    (log,) = home.glob("runs/*/logs/attempt-0/rank-0.out")
    return Round(lab, home, work, dice, process, log, dice_of_host=dice.randrange(2))


def _wait(now: Round) -> None:
    """Until the launcher has come to its end by itself."""
    now.process.wait(timeout=90)


def _was_over(now: Round, before: float) -> bool:
    """Whether the host's ranks had ended when the fault came: then there was nothing to break."""
    events = [json.loads(x) for x in (now.folder / "events.jsonl").read_text().splitlines()]
    exits = [e for e in events if e["event"] == "ProcessExited" and e["host"] == now.host.name]
    return len(exits) == 2 and max(e["time"] for e in exits) < before


def _heal(lab: labs.Lab, now: Round) -> None:
    """Everything as it was: hosts up and plugged in, no loss, room on disks."""
    for host in lab.hosts.values():
        if host._process is None:
            host.boot()
            continue
        host.plug()
        host.loss(0)
        host.slow(0)
        host.run("rm", "-f", "/root/ballast")


def _attach(now: Round) -> None:
    """Another process takes the run up, as a user would."""
    argv = [sys.executable, "-m", "launcher", "attach", "-"]
    done = subprocess.run(
        argv, env=_environment(now.home), capture_output=True, timeout=90, check=False
    )
    if not (now.folder / "receipt.json").exists():
        raise labs.LabError(done.stderr.decode())


def _judge(lab: labs.Lab, now: Round, allowed: set[str]) -> tuple[str, tuple[str, ...]]:
    """The status, and everything that is not as it must be."""
    receipt: dict[str, Any] = json.loads((now.folder / "receipt.json").read_text())
    status = receipt["status"]
    wrong = [] if status in allowed else [f"it is {status} ({receipt['reason']})"]
    for part in receipt["hosts"]:
        host = lab.hosts[part["host"]]
        if part["left"] not in (0, *([None] if host.name in now.gone else [])):
            wrong.append(f"the receipt says that {part['left']} are left on {host.name}")
        with contextlib.suppress(labs.LabError):
            labs.wait_until(lambda h=host: not _left(h), "end", 20)
        if left := _left(host):
            wrong.append(f"left on {host.name}: {left}")
        wrong += _leases(host)
        if host.name not in now.gone:
            wrong += _logs(host, now, receipt["run"]) + _outputs(host, now, receipt["run"])
    return status, tuple(wrong)


def _left(host: labs.LabHost) -> list[str]:
    """What of any run is still on a host, by its own process table."""
    return [" ".join(p.argv)[:80] for p in host.processes() if "LAUNCHER_RUN_ID" in p.environ]


def _leases(host: labs.LabHost) -> list[str]:
    """Leases that are still held there."""
    script = "for f in /var/tmp/launcher-leases/*; do flock -n $f true || echo $f; done"
    held = host.run("sh", "-c", script, check=False).stdout.decode().split()
    return [f"{host.name} holds {file}" for file in held if not file.endswith("*")]


def _files(host: labs.LabHost, folder: str) -> dict[str, bytes]:
    listed = host.run("sh", "-c", f"cd {folder} 2>/dev/null && find . -type f", check=False)
    return {name: host.read(f"{folder}/{name}") for name in listed.stdout.decode().split()}


def _logs(host: labs.LabHost, now: Round, run: str) -> list[str]:
    there = _files(host, f"/root/.launcher/host/runs/{run}/logs")
    different = [
        name
        for name, data in there.items()
        if (not (now.folder / "logs" / name).exists() and data)
        or ((now.folder / "logs" / name).exists() and (now.folder / "logs" / name).read_bytes() != data)
    ]  # fmt: skip
    return [f"{host.name}: {name} differs" for name in different]


def _outputs(host: labs.LabHost, now: Round, run: str) -> list[str]:
    there = _files(host, f"/root/.launcher/host/runs/{run}/outputs")
    here = now.folder / "outputs"
    return [
        f"{host.name}: output {name} is not here"
        for name, data in there.items()
        if not (here / name).exists() or (here / name).read_bytes() != data
    ]


def table(outcomes: list[Outcome]) -> str:
    """Fault, rounds, seconds to the end (median and most), and what was lost."""
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.fault].append(outcome)
    lines = [
        "| fault | rounds | ended as | s to the end | wrong |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault, found in by_fault.items():
        times = sorted(outcome.to_end for outcome in found)
        statuses = sorted({outcome.status for outcome in found})
        wrong = sum(bool(outcome.wrong) for outcome in found)
        middle, most = times[len(times) // 2], times[-1]
        lines.append(
            f"| {fault} | {len(found)} | {', '.join(statuses)} | {middle:.1f} ({most:.1f}) | {wrong} |"
        )
    return "\n".join(lines)


def main() -> int:
    """As many rounds as asked for, every fault in turn."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2 * len(FAULTS))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--light", action="store_true", help="without torch")
    args = parser.parse_args()
    if reason := labs.missing():
        sys.exit(f"no lab of real hosts here: {reason}")
    print(f"seed {args.seed}", flush=True)
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        labs.Lab(SPECS, Path(scratch) / "lab", share=SHARE) as lab,
    ):
        for number in range(args.rounds):
            fault = args.faults[number % len(args.faults)]
            place = Path(scratch) / str(number)
            outcome = play(lab, fault, args.seed + number, args.light, place)
            outcomes.append(outcome)
            wrong = "; ".join(outcome.wrong) or "as it must be"
            print(f"{number + 1:3} {fault}: {outcome.status}, {wrong}", flush=True)
    print(f"\n{table(outcomes)}")
    return sum(bool(outcome.wrong) for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
