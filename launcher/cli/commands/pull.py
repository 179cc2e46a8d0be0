"""``launcher pull``: bring outputs and logs of a run back now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from ...api.handles import Pulled
from ..render.tables import counted, size
from ..run_argument import attached, run_argument


@click.command("pull")
@run_argument
@click.argument("dest", required=False, type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, word: str, dest: Path | None) -> None:
    """Bring outputs and logs of a run back as they are on its hosts now. The run continues.

    With DEST, also copy them there.
    """
    pulled = asyncio.run(_pull(word, dest))
    click.echo(
        f"{counted(pulled.files, 'file')}, {size(pulled.bytes)} in {pulled.outputs}", err=True
    )
    for host, why in pulled.failed.items():
        click.secho(f"{host}: not complete: {why}", fg="yellow", err=True)
    ctx.exit(1 if pulled.failed else 0)


async def _pull(word: str, dest: Path | None) -> Pulled:
    async with attached(word) as run:
        return await run.pull(dest)
