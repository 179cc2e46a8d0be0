"""``launcher logs``: the logs of a run's ranks."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING

import click

from ...api.jobs import seconds
from ...spec.errors import InputError
from .. import options, output
from ..grouped import GroupedCommand
from ..run_argument import attached, check_ranks, run_argument

if TYPE_CHECKING:
    from ..render.run_view import Screen


EXAMPLES = (
    "launcher logs -f -                      follow the latest run",
    "launcher logs exp1 --ranks 0 --tail 50",
    "launcher logs exp1 --grep 'loss|Error' --since 10m --timestamps",
)


@click.command("logs", cls=GroupedCommand, examples=EXAMPLES)
@run_argument
@click.option(
    "-f", "--follow", is_flag=True, help="Follow until the run ends; Ctrl-C leaves it running."
)
@options.ranks
@click.option("--since", metavar="T", help="Show only what came in the last 10m, 2h, ...")
@click.option(
    "--tail", type=click.IntRange(0), metavar="N", help="Show only the last N lines of each log."
)
@click.option("--grep", metavar="REGEX", help="Show only lines that match this expression.")
@click.option("--timestamps", is_flag=True, help="Show when each line arrived, to the second.")
@click.option("--merged", is_flag=True, help="Merge all ranks in order of time.")
@options.raw
def command(
    word: str,
    follow: bool,
    ranks: frozenset[int] | None,
    since: str | None,
    tail: int | None,
    grep: str | None,
    timestamps: bool,
    merged: bool,
    raw: bool,
) -> None:
    """Show the logs of all ranks of a run."""
    try:
        age = None if since is None else seconds(since)
    except ValueError as error:
        raise InputError(f"--since: {error}") from None
    try:
        wanted = None if grep is None else re.compile(os.fsencode(grep))
    except re.error as error:
        raise InputError(
            f"--grep {grep}: not a regular expression: {error}", "escape special characters with \\"
        ) from None
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, grep=wanted, timestamps=timestamps)
    asyncio.run(_show(word, screen, ranks, follow, age, tail, merged, timestamps))


async def _show(
    word: str,
    screen: Screen,
    ranks: frozenset[int] | None,
    follow: bool,
    since: float | None,
    tail: int | None,
    merged: bool,
    timed: bool,
) -> None:
    async with attached(word) as run:
        if run.layout.nodes:
            check_ranks(run, ranks)
            screen.fit(run.layout)
        if follow:
            screen.go_live()
        async with screen:
            pieces = run.logs(follow=follow, since=since, tail=tail, merged=merged, timed=timed)
            async for piece in pieces:
                screen.on_log(piece.host, piece.name, piece.data, piece.arrived)
                if output.is_unread():
                    return
        if not any((run.folder / "logs").glob("*/*")):
            click.echo(f"{run.name} has no logs: none of its processes was started", err=True)
