"""``launcher rm``: forgets a run, here and there."""

from __future__ import annotations

import asyncio

import click

from ...spec.errors import RunKept
from .. import complain
from ..run_argument import new_client, run_argument


@click.command("rm")
@run_argument
@click.option("--force", is_flag=True, help="Forget it here even if a host cannot be reached.")
@click.pass_context
def command(ctx: click.Context, word: str, force: bool) -> None:
    """Removes a run that has ended: its folder here, and on every host. Outputs that were not copied
    elsewhere are gone then."""
    client = new_client()
    name = client.show(word).run

    async def remove() -> None:
        async with client:
            for error in await client.rm(name, force):
                complain(error)

    try:
        asyncio.run(remove())
    except RunKept as kept:
        for error in kept.errors:
            complain(error)
        click.echo(f"{kept.message}: launcher rm --force deletes it here anyway", err=True)
        ctx.exit(1)
    click.echo(f"{name} is forgotten")
