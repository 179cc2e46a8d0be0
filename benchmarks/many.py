"""Many hosts: what each of them costs, from 32 to 512, and whether a storm of logs stays whole.

Who else starts something on many hosts is in `start` and `check`. Here launcher is measured against itself:
a cost that is flat for each host, whatever their number, is a ratio of 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .measure import CommandError, Sample, race, run, spread, table
from .place import Place, labs, place

SIZES = (32, 128, 512)
#: Lines of 100 bytes that each rank prints in the storm.
LINES = 2_000
STORM = f"for n in range({LINES}):\n    print('%s %0*d' % ('x' * 9, 89, n))\n"
#: Seconds over which quiet ranks are sampled.
QUIET = 20.0
#: Seconds for a command on all hosts; they share two processors.
LIMIT = 900.0


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """Two tables: commands, then logs."""
    commands, logs = [], []
    with place(max(sizes)) as here:
        (here.empty / "storm.py").write_text(STORM)
        costs: dict[str, Cost] = {}
        for size in sorted(sizes):
            samples = race(_contenders(here, size), min(rounds, 3))
            for name, found in samples.items():
                cost = Cost(found, size)
                costs.setdefault(name, cost)  # of the smallest
                commands.append([str(size), name, *cost.row(costs[name])])
            logs.append([str(size), *_storm(here, size), *_quiet(here, size)])
    head = ["hosts", "command", "wall, s", "wall for each, ms", "CPU here for each", "there"]
    against = f"each, of that of {min(sizes)}: wall, here, there"
    return "\n\n".join(
        [
            table([*head, against], commands),
            table(["hosts", "logs complete", "storm, s", "lines/s", "quiet: CPU here, %"], logs),
        ]
    )


class Cost:
    """What one host costs in milliseconds: of wall time, and of CPU here and there."""

    def __init__(self, samples: Sequence[Sample], hosts: int) -> None:
        self._samples = samples
        self._each = [
            statistics.median([getattr(one, what) for one in samples]) * 1000 / hosts
            for what in ("wall", "cpu", "hosts")
        ]

    def row(self, least: Cost) -> list[str]:
        """The cells of a row; ``least`` is the cost of a host among the fewest."""
        shares = [
            f"{mine / theirs:.2f}" if theirs else "-"
            for mine, theirs in zip(self._each, least._each, strict=True)
        ]
        wall = spread([one.wall for one in self._samples], ".1f")
        return [wall, *(f"{each:.1f}" for each in self._each), ", ".join(shares)]


def _contenders(here: Place, size: int) -> dict[str, Callable[[], Sample]]:
    hosts = ["--hosts", ",".join(here.names(size))]
    fresh = _fresh_places(here)

    def first() -> Sample:
        argv = here.launcher(size, "--framework", "env", "--", "true")
        argv[argv.index("-i") + 1] = str(next(fresh))
        return here.timed(argv, limit=LIMIT)()

    return {
        "run": here.timed(here.launcher(size, "--framework", "env", "--", "true"), limit=LIMIT),
        "run, first contact": first,
        "check --no-pairs": here.timed(
            here.launcher_command("check", *hosts, "--no-pairs"), limit=LIMIT
        ),
        "queue": here.timed(here.launcher_command("queue", *hosts), limit=LIMIT),
        "top --once": here.timed(here.launcher_command("top", *hosts, "--once"), limit=LIMIT),
    }


def _fresh_places(here: Place) -> Iterator[Path]:
    """Inventories of the same hosts, each with a folder there that launcher has never seen."""
    number = 0
    while True:
        number += 1
        text = labs.inventory(here.lab, sys.executable)
        folder = f"/root/first-{time.monotonic_ns()}"
        file = here.scratch / f"first-{number}.yaml"
        file.write_text(text.replace("user: root", f"user: root, workdir: {folder}"))
        yield file


def _storm(here: Place, size: int) -> list[str]:
    """All ranks print at once: how many logs are whole, and how fast they came."""
    argv = here.launcher(size, "--framework", "env", "--", sys.executable, "storm.py")
    sample = run(argv, env=here.env, cwd=here.empty, limit=LIMIT)
    text = "".join(f"{'x' * 9} {n:089d}\n" for n in range(LINES)).encode()
    wanted = hashlib.sha256(text).hexdigest()
    folder = here.run_folder() / "logs" / "attempt-0"
    found = [hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.out")]
    whole = sum(one == wanted for one in found)
    return [f"{whole} of {size}", f"{sample.wall:.1f}", f"{size * LINES / sample.wall:,.0f}"]


def _quiet(here: Place, size: int) -> list[str]:
    """Ranks that say nothing: what their follower spends."""
    argv = here.launcher(size, "--detach", "--framework", "env", "--", "sleep", "3600.5")
    run(argv, env=here.env, cwd=here.empty, limit=LIMIT)
    folder = here.run_folder()
    stat = Path(f"/proc/{(folder / 'launcher.lock').read_text().strip()}/stat")
    before = _ticks(stat)
    time.sleep(QUIET)
    used = (_ticks(stat) - before) / os.sysconf("SC_CLK_TCK")
    stop = [sys.executable, "-m", "launcher", "stop", folder.name]
    subprocess.run(stop, env=here.env, capture_output=True, check=True)
    left = json.loads((folder / "receipt.json").read_text())["status"]
    if left != "stopped":
        raise CommandError(f"the quiet run ended as {left}")
    return [f"{used / QUIET * 100:.2f}"]


def _ticks(stat: Path) -> int:
    return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))  # utime, stime
