"""The first answer: `launcher --help` beside a Python that does nothing."""

from __future__ import annotations

import sys

from .measure import Sample, race, ratios, run, spread, table
from .place import ROOT

COMMANDS = {
    "launcher --help": ["-m", "launcher", "--help"],
    "launcher run --help": ["-m", "launcher", "run", "--help"],
    "python -c 'import launcher'": ["-c", "import launcher"],
    "python -c pass": ["-c", "pass"],
    "python -c 'import click'": ["-c", "import click"],
    "python -c 'import asyncssh'": ["-c", "import asyncssh"],
}


def main(rounds: int) -> str:
    """The table."""

    def once(words: list[str]) -> Sample:
        return run([sys.executable, *words], cwd=ROOT, limit=60)

    samples = race({n: (lambda w=w: once(w)) for n, w in COMMANDS.items()}, rounds * 4)
    base = samples["python -c pass"]
    rows = [
        [
            f"`{name}`",
            spread([s.wall for s in found], ".3f"),
            spread(ratios(found, base), ".1f"),
            spread([s.rss for s in found], ".0f"),
        ]
        for name, found in samples.items()
    ]
    return table(["command", "wall, s", "times `python -c pass`", "RSS, MiB"], rows)
