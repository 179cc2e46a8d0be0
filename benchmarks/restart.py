"""The gap of a restart: from the end of the attempt that failed to the ranks of the next one, on 2 hosts
with 2 ranks each that import torch; with and without ``--preload``.

Times are those of the events and of the script itself: all hosts of the lab have one clock.
"""

from __future__ import annotations

import json
from pathlib import Path

from .measure import Sample, race, ratios, run, spread, table
from .place import Place, place

NODES, PROCESSES = 2, 2
SCRIPT = """\
import time

print("runs", time.time(), flush=True)
import os
import sys

import torch

print("torch", time.time(), flush=True)
import gc

gc.collect()  # writes to all objects, as training does sooner or later
time.sleep(1)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink("/proc/%s/fd/1" % pid).endswith("/preload.out"):
            sizes = [line.split() for line in open("/proc/%s/smaps_rollup" % pid)]
            own = sum(int(one[1]) for one in sizes if one[0].startswith("Private_"))
            print("holder", own, next(one[1] for one in sizes if one[0] == "Rss:"), flush=True)
    except OSError:
        pass
sys.exit(os.environ["LAUNCHER_ATTEMPT"] == "0")
"""


def main(rounds: int) -> str:
    """The table."""
    with place(NODES) as here:
        code = here.scratch / "code"
        code.mkdir()
        (code / "train.py").write_text(SCRIPT)
        options = ("--nproc-per-node", str(PROCESSES), "--framework", "torch")
        seen: dict[str, dict[str, list[Sample]]] = {"runs": {}, "torch": {}}
        own, sizes = [], []

        def once(name: str, *words: str) -> Sample:
            argv = here.launcher(
                NODES, *options, "--max-restarts", "1", *words, "train.py", workdir=code
            )
            whole = run(argv, env=here.env, cwd=here.empty)
            ended = _end_of_first(here)
            for line, kept in seen.items():
                kept.setdefault(name, []).append(Sample(_first(here, line) - ended))
            for _, private, size in _said(here, 0, "holder"):
                own.append(int(private) / 1024)
                sizes.append(int(size) / 1024)
            return whole

        samples = race(
            {
                "--preload torch": lambda: once("--preload torch", "--preload", "torch"),
                "without": lambda: once("without"),
            },
            rounds,
        )
    rows = []
    for name in samples:
        row = [name]
        for kept in seen.values():
            row += [spread([one.wall for one in kept[name][1:]])]
        rows.append([*row, spread([one.wall for one in samples[name]])])
    notes = [
        f"`{what}`: {spread(ratios(kept['--preload torch'][1:], kept['without'][1:]))} of that without"
        for what, kept in (
            ("the first line of a rank", seen["runs"]),
            ("a rank that has torch", seen["torch"]),
        )
    ]
    if own:
        notes.append(
            f"the Python that has imported has {spread(own, '.0f')} MiB for itself while ranks run; its"
            f" size (RSS), with what it shares with them, is {spread(sizes, '.0f')} MiB"
        )
    head = ["", "until all ranks run, s", "until all have torch, s", "the whole run, s"]
    return "\n".join([table(head, rows), "", *(f"- {note}" for note in notes)])


def _end_of_first(here: Place) -> float:
    """When the last rank of the first attempt exited."""
    lines = (here.run_folder() / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    exits = [one for one in events if one["event"] == "ProcessExited" and one["attempt"] == 0]
    return float(max(one["time"] for one in exits))


def _first(here: Place, word: str) -> float:
    """When the last rank of the second attempt said this."""
    return max(float(line[1]) for line in _said(here, 1, word))


def _said(here: Place, attempt: int, word: str) -> list[list[str]]:
    logs: list[Path] = sorted((here.run_folder() / "logs" / f"attempt-{attempt}").glob("*.out"))
    lines = [line.split() for log in logs for line in log.read_text().splitlines()]
    return [line for line in lines if line and line[0] == word]
