"""Train on real hosts, strike a fault at a random moment, then ask the hosts what is left.

    PYTHONPATH=tests python -m chaos.play [--rounds N] [--seed S] [--faults NAME...] [--light]

The hosts are in support/lab.py, the faults in faults.py, the verdict in judge.py. Each round prints
one line; a table in Markdown follows. The exit code is the number of rounds in which anything was
lost, left behind or untrue.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import FAULTS, STARTING, Fault, missing
from chaos.judge import judge, recorded
from chaos.round import SHARE, SPECS, Round
from support import lab as labs

__all__ = ["FAULTS", "SHARE", "SPECS", "Outcome", "missing", "play"]


@dataclass(frozen=True)
class Outcome:
    """What came of a round. ``wrong`` is empty if all is well; ``to_end`` is in seconds."""

    fault: str
    status: str
    wrong: tuple[str, ...]
    to_end: float


def play(lab: labs.Lab, name: str, seed: int, light: bool, scratch: Path) -> Outcome:
    """Play one round. Raise LabError if the lab itself fails."""
    fault = FAULTS[name]
    now = Round(lab, scratch, random.Random(seed), light)
    try:
        fault.prepare(now)
        _begin(now, fault)
        time.sleep(now.dice.uniform(0.0, STARTING if fault.early else now.training * 0.8))
        struck, at = time.monotonic(), time.time()
        fault.strike(now)
        for process in (now.process, now.other):
            if process:
                process.wait(timeout=90)
        to_end = time.monotonic() - struck
        late = _was_over(now, at)
        now.heal()
        _take_up(now, fault)
        fault.afterwards(now)
        allowed = fault.allowed | ({"succeeded"} if late else set())
        return Outcome(name, *judge(now, allowed), to_end)
    finally:
        now.end()
        subprocess.run(["umount", "--lazy", "--quiet", now.home], stderr=subprocess.DEVNULL)


def _begin(now: Round, fault: Fault) -> None:
    """Start the run; wait until all ranks train, unless the fault comes earlier."""
    if fault.beside:
        now.other = now.run(longer=now.training)
        now.until_training(now.other)
    now.process = now.run(*fault.options, longer=fault.lasts)
    if not fault.early:
        now.until_training(now.process)


def _was_over(now: Round, before: float) -> bool:
    """Return whether the host's ranks had exited before the fault, so that it broke nothing."""
    events = [event for folder in now.folders for event in recorded(folder)]
    exits = [e for e in events if e["event"] == "ProcessExited" and e["host"] == now.host.name]
    return len(exits) >= 2 and max(e["time"] for e in exits) < before


def _take_up(now: Round, fault: Fault) -> None:
    """Attach to, or stop, what nobody follows, as a user would."""
    for folder in now.folders:
        if (folder / "receipt.json").exists():
            continue
        done = now.call("stop" if fault.early else "attach", folder.name)
        if not (folder / "receipt.json").exists() and not fault.early:
            raise labs.LabError(done.stderr)


def table(outcomes: list[Outcome]) -> str:
    """Return a table: fault, rounds, endings, seconds to the end (median and most), what was wrong."""
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
    """Play as many rounds as asked for, every fault in turn."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="default: two of each fault")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", nargs="*", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--light", action="store_true", help="without torch")
    args = parser.parse_args()
    if reason := labs.missing():
        sys.exit(f"no lab of real hosts here: {reason}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab goes, too
    # A shell ignores it in what it starts in the background, and a launcher would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in args.faults if missing(name)]:
        print(f"{name}: left out: {missing(name)}")
        args.faults.remove(name)
    print(f"seed {args.seed}", flush=True)
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        labs.Lab(SPECS, Path(scratch) / "lab", share=SHARE) as lab,
    ):
        for number in range(args.rounds or 2 * len(args.faults)):
            fault = args.faults[number % len(args.faults)]
            place = Path(scratch) / str(number)
            outcome = play(lab, fault, args.seed + number, args.light, place)
            outcomes.append(outcome)
            wrong = "; ".join(outcome.wrong) or "all is well"
            print(f"{number + 1:3} {fault}: {outcome.status}, {wrong}", flush=True)
    print(f"\n{table(outcomes)}")
    return sum(bool(outcome.wrong) for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
