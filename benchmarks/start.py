"""A command that does nothing, on more and more hosts: the cost before the work begins.

launcher also probes, syncs, supervises, follows, sweeps and writes a receipt; the others only
run it.
"""

from __future__ import annotations

from .measure import COMPARISON, comparison, race, table
from .place import place

SIZES = (2, 8, 32, 64)


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """The table."""
    rows = []
    for size in sizes:
        with place(size) as here:
            ours = here.launcher(size, "--framework", "env", "--", "true")
            commands = {"launcher": ours, **here.rivals(size, "true")}
            contenders = {name: here.timed(argv) for name, argv in commands.items()}
            samples = race(contenders, rounds if size < 64 else max(3, rounds - 2))
        rows += [[str(size), *row] for row in comparison(samples)]
    return table(["hosts", "tool", *COMPARISON], rows)
