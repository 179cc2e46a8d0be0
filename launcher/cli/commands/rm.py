"""``launcher rm``: delete a run, here and on its hosts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import click

from ...records.receipt import NotBrought
from ...spec.errors import HostError, LauncherError, RunKept
from .. import complain
from ..render.hints import below_error
from ..render.not_brought import also, loss
from ..render.tables import counted
from ..run_argument import new_client, run_argument


@click.command("rm")
@run_argument
@click.option("--force", is_flag=True, help="Delete it here even if a host is unreachable.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask about files that are on hosts alone.")
@click.pass_context
def command(ctx: click.Context, word: str, force: bool, yes: bool) -> None:
    """Delete a run that has ended: its folder here, outputs included, and on every host.

    If hosts have files of the run that were never brought back, you are asked first.
    """
    client = new_client()
    run = client.show(word)

    async def left() -> tuple[NotBrought, ...]:
        async with client:
            return await client.attach_here(run.run).not_brought()

    async def remove() -> list[HostError]:
        async with client:
            return await client.rm(run.run, force)

    asks = not (yes or run.followed)  # a run that is followed is not deleted
    if asks and not _agreed(run.run, _quietly(left())):
        ctx.exit(1)
    try:
        unreachable = asyncio.run(remove())
    except RunKept as kept:
        for error in kept.errors:
            complain(error)
        click.echo(f"{kept.message}: {kept.hint}", err=True)
        ctx.exit(1)
    for error in unreachable:
        complain(error)
    cleaned = len(run.hosts) - len(unreachable)
    there = f" and on {counted(cleaned, 'host')}" if cleaned > 0 else ""
    click.echo(f"deleted {run.run} here{there}")


def _quietly(asking: Coroutine[Any, Any, tuple[NotBrought, ...]]) -> tuple[NotBrought, ...]:
    """Return what hosts alone have; nothing of a run that cannot be read, which rm reports itself."""
    try:
        return asyncio.run(asking)
    except LauncherError:
        return ()


def _agreed(run: str, left: tuple[NotBrought, ...]) -> bool:
    """Return whether the user agrees to lose files that only hosts have; True if there are none."""
    if not left:
        return True
    click.echo(f"this also deletes {loss(left)}", err=True)
    if sys.stdin.isatty():
        return click.confirm(f"Delete {run}?", err=True)
    option = f" {also(outside)}" if (outside := [one for one in left if one.path]) else ""
    hint = f"launcher pull {run}{option} brings it; launcher rm -y {run} deletes it"
    click.echo(f"not deleted: {run}", err=True)
    click.echo(below_error(hint), err=True)
    return False
