"""``launcher rm``: delete a run, here and on its hosts."""

from __future__ import annotations

import asyncio

import click

from ...spec.errors import HostError, RunKept
from .. import complain
from ..render.tables import counted
from ..run_argument import new_client, run_argument


@click.command("rm")
@run_argument
@click.option("--force", is_flag=True, help="Delete it here even if a host is unreachable.")
@click.pass_context
def command(ctx: click.Context, word: str, force: bool) -> None:
    """Delete a run that has ended: its folder here, outputs included, and on every host."""
    client = new_client()
    run = client.show(word)

    async def remove() -> list[HostError]:
        async with client:
            return await client.rm(run.run, force)

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
