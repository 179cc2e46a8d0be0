"""``launcher wait``: wait until runs have ended."""

from __future__ import annotations

import asyncio
import json

import click

from ...api.client import Client
from ...records.receipt import Receipt
from .. import completion
from ..run_argument import new_client


@click.command("wait")
@click.argument("words", metavar="RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("--any", "first", is_flag=True, help="Return when one has ended, and print its name.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipts as JSON.")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...], first: bool, as_json: bool) -> None:
    """Wait silently until runs of this machine have ended.

    RUN may be a pattern such as 'sweep-*'. A run that nobody follows is followed meanwhile. Ctrl-C ends
    the waiting, and the runs continue. The exit code is that of the run; of several, the first one that
    is not 0, in the order of their start; with --any, that of the run that ended.
    """
    names = [run.run for run in Client().select(words)]
    receipts = asyncio.run(_wait(names, first))
    if as_json:
        click.echo(json.dumps([one.to_json() for one in receipts], indent=2))
    elif first:
        click.echo(receipts[0].run)
    ctx.exit(next((one.exit_code for one in receipts if one.exit_code), 0))


async def _wait(names: list[str], first: bool) -> list[Receipt]:
    """Return the receipts of all runs, or only that of the first one that has ended."""
    async with new_client() as client:
        tasks = [asyncio.ensure_future(client.attach_here(name).wait()) for name in names]
        try:
            if not first:
                return list(await asyncio.gather(*tasks))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return [next(task for task in tasks if task.done()).result()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
