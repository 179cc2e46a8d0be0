"""A command that does nothing, on more and more hosts: the cost before the work begins.

launcher also probes, syncs, supervises, follows, sweeps and writes a receipt; the others only
run it. "asyncssh alone" is the least that any program on that library takes: no launcher can start
faster than this.
"""

from __future__ import annotations

import sys

from .measure import COMPARISON, comparison, race, table
from .place import place

SIZES = (2, 8, 32, 64)

FLOOR = """
import asyncio, sys, asyncssh

async def one(host):
    async with asyncssh.connect(host, config=[sys.argv[1]]) as connection:
        await connection.run("true", check=True)

async def every():
    await asyncio.gather(*map(one, sys.argv[2:]))

asyncio.run(every())
"""


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """The table."""
    rows = []
    for size in sizes:
        with place(size) as here:
            ours = here.launcher(size, "--framework", "env", "--", "true")
            floor = [sys.executable, "-c", FLOOR, str(here.lab.ssh_config), *here.names(size)]
            rivals = here.rivals(size, "true")
            commands = {"launcher": ours, "asyncssh alone": floor, **rivals}
            contenders = {name: here.timed(argv) for name, argv in commands.items()}
            samples = race(contenders, rounds if size < 64 else max(3, rounds - 2))
        rows += [[str(size), *row] for row in comparison(samples)]
    return table(["hosts", "tool", *COMPARISON], rows)
