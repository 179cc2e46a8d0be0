"""The second start: a line of a script was edited, and it runs again on 2 hosts that know everything else.

From Enter until rank 0 has printed its first line, which comes before any import, and until all ranks have
torch. Times are those of the script itself: all hosts of the lab have one clock.
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .measure import CommandError, Sample, race, ratios, run, spread, table
from .place import Place, place

NODES = 2
SCRIPT = """\
import os
import time

edited = {edited}
print("first", os.environ["RANK"], time.time(), edited, flush=True)
import torch

print("torch", os.environ["RANK"], time.time(), edited, flush=True)
"""
_edits = itertools.count()


def by_hand(here: Place, code: Path) -> list[str]:
    """One shell that copies to both hosts at once, and starts a rank on each."""
    lines = []
    for rank, name in enumerate(here.names(NODES)):
        there = f"cd code && RANK={rank} {sys.executable} train.py"
        copy = f"rsync -a -e {shlex.quote(here.ssh())} {shlex.quote(str(code))}/ {name}:code/"
        lines.append(f"{{ {copy} && {here.ssh()} {name} {shlex.quote(there)}; }} & p{rank}=$!")
    waits = "\n".join(f"wait $p{rank} || exit 1" for rank in range(NODES))
    return ["bash", "-c", "\n".join(lines) + "\n" + waits]


def main(rounds: int) -> str:
    """The table."""
    with place(NODES) as here:
        code = here.scratch / "code"
        code.mkdir()
        seen: dict[str, dict[str, list[Sample]]] = {"first": {}, "torch": {}}

        def once(name: str, argv: list[str]) -> Sample:
            edited = next(_edits)
            (code / "train.py").write_text(SCRIPT.format(edited=edited))
            said = here.scratch / "said"
            began = time.time()
            with said.open("wb") as out:
                whole = run(argv, env=here.env, cwd=here.empty, out=out)
            text = said.read_text()
            seen["first"].setdefault(name, []).append(_until(text, "first", "0", edited, began))
            seen["torch"].setdefault(name, []).append(_until(text, "torch", r"\d", edited, began))
            return whole

        def ours(*words: str) -> list[str]:
            options = ("--nproc-per-node", "1", "--framework", "torch", *words)
            return here.launcher(NODES, *options, "train.py", workdir=code)

        commands = {
            "launcher --preload torch": ours("--preload", "torch"),
            "launcher": ours(),
            "by hand: rsync, ssh": by_hand(here, code),
        }
        samples = race({name: _contender(once, name, commands[name]) for name in commands}, rounds)
    hand = "by hand: rsync, ssh"
    rows = []
    for name, whole in samples.items():
        row = [name]
        for kept in seen.values():
            row += [spread([one.wall for one in kept[name][1:]])]
            row += ["1" if name == hand else spread(ratios(kept[name][1:], kept[hand][1:]))]
        rows.append([*row, spread([one.wall for one in whole])])
    head = ["", "first line, s", "of by hand", "all have torch, s", "of by hand", "in all, s"]
    return table(head, rows)


def _contender(
    once: Callable[[str, list[str]], Sample], name: str, argv: list[str]
) -> Callable[[], Sample]:
    return lambda: once(name, argv)


def _until(text: str, word: str, rank: str, edited: int, began: float) -> Sample:
    """When the last of these ranks said this, and that it was the edited script."""
    found = re.findall(rf"\b{word} {rank} (\d+\.\d+) {edited}$", text, re.MULTILINE)
    if len(found) != (1 if rank == "0" else NODES):
        raise CommandError(f"not every rank said {word} {edited}: {text}")
    return Sample(max(map(float, found)) - began)
