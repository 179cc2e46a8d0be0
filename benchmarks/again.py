"""The second start: a line of a script was edited, and it runs again on hosts that know everything else.

From Enter until rank 0 has printed its first line, which comes before any import, and until all ranks have
torch, on 2 hosts; the first line alone, of a script that imports nothing, on 1 to 8. Times are those of the
script itself: all hosts of the lab have one clock. With --keep-warm, the round before has left torch on them.
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .measure import CommandError, Sample, race, ratios, run, spread, table
from .place import Place, place

NODES = 2
#: Hosts of the script that only prints.
SIZES = (1, 2, 4, 8)
KEEP = ("--preload", "torch", "--keep-warm", "10m")
SCRIPT = """\
import os
import time

edited = {edited}
print("first", os.environ["RANK"], time.time(), edited, flush=True)
import torch

print("torch", os.environ["RANK"], time.time(), edited, flush=True)
"""
_edits = itertools.count()
HAND = "by hand: rsync, ssh"


PRINTS = """\
import os, time

print("first", os.environ["RANK"], time.time(), {edited}, flush=True)
"""


def by_hand(here: Place, nodes: int, code: Path) -> list[str]:
    """One shell that copies to all hosts at once, and starts a rank on each."""
    lines = []
    for rank, name in enumerate(here.names(nodes)):
        there = f"cd code && RANK={rank} {sys.executable} train.py"
        copy = f"rsync -a -e {shlex.quote(here.ssh())} {shlex.quote(str(code))}/ {name}:code/"
        lines.append(f"{{ {copy} && {here.ssh()} {name} {shlex.quote(there)}; }} & p{rank}=$!")
    waits = "\n".join(f"wait $p{rank} || exit 1" for rank in range(nodes))
    return ["bash", "-c", "\n".join(lines) + "\n" + waits]


def main(rounds: int) -> str:
    """The tables."""
    ways = {
        "launcher --preload torch --keep-warm 10m": KEEP,
        "launcher --preload torch": KEEP[:2],
        "launcher": (),
    }
    both = _compared(NODES, SCRIPT, ways, ("first", "torch"), rounds)
    few = {name: ways[name] for name in [*ways][::2]}
    alone = [row for size in SIZES for row in _compared(size, PRINTS, few, ("first",), rounds)]
    first, torch = ("first line, s", "of by hand"), ("all have torch, s", "of by hand")
    rest = ("in all, s", "CPU here, s", "CPU on all hosts, s")
    return "\n\n".join(
        [
            "A script that imports torch:",
            table(["hosts", "", *first, *torch, *rest], both),
            "One that prints:",
            table(["hosts", "", *first, *rest], alone),
        ]
    )


def _compared(
    nodes: int, script: str, ways: dict[str, tuple[str, ...]], words: tuple[str, ...], rounds: int
) -> list[list[str]]:
    """A row for each of some ways to start a script, and for that by hand."""
    with place(nodes) as here:
        code = here.scratch / "code"
        code.mkdir()
        seen: dict[str, dict[str, list[Sample]]] = {word: {} for word in words}

        def once(name: str, argv: list[str]) -> Sample:
            edited = next(_edits)
            (code / "train.py").write_text(script.format(edited=edited))
            said = here.scratch / "said"
            before, began = here.hosts_cpu(), time.time()
            with said.open("wb") as out:
                whole = run(argv, env=here.env, cwd=here.empty, out=out)
            whole = replace(whole, hosts=here.hosts_cpu() - before)
            text = said.read_text()
            for word, kept in seen.items():
                ranks = ("0", 1) if word == "first" else (r"\d", nodes)
                kept.setdefault(name, []).append(_until(text, word, *ranks, edited, began))
            return whole

        options = ("--nproc-per-node", "1", "--framework", "torch")
        commands = {
            name: here.launcher(nodes, *options, *own, "train.py", workdir=code)
            for name, own in ways.items()
        }
        commands[HAND] = by_hand(here, nodes, code)
        samples = race({name: _contender(once, name, commands[name]) for name in commands}, rounds)
    rows = []
    for name, whole in samples.items():
        row = [str(nodes), name]
        for kept in seen.values():
            row += [spread([one.wall for one in kept[name][1:]])]
            row += ["1" if name == HAND else spread(ratios(kept[name][1:], kept[HAND][1:]))]
        row += [spread([getattr(one, cost) for one in whole]) for cost in ("wall", "cpu", "hosts")]
        rows.append(row)
    return rows


def _contender(
    once: Callable[[str, list[str]], Sample], name: str, argv: list[str]
) -> Callable[[], Sample]:
    return lambda: once(name, argv)


def _until(text: str, word: str, rank: str, count: int, edited: int, began: float) -> Sample:
    """When the last of these ranks said this, and that it was the edited script."""
    found = re.findall(rf"\b{word} {rank} (\d+\.\d+) {edited}$", text, re.MULTILINE)
    if len(found) != count:
        raise CommandError(f"not every rank said {word} {edited}: {text}")
    return Sample(max(map(float, found)) - began)
