"""``launcher rerun``: a run once more."""

from __future__ import annotations

import asyncio

import click

from .. import options
from ..follow import begin
from ..inventory_lookup import find_inventory
from ..run_argument import new_client, run_argument


@click.command("rerun")
@run_argument
@options.ranks
@options.raw
@options.detach
@options.receipt_as_json
@click.pass_context
def command(
    ctx: click.Context,
    word: str,
    ranks: frozenset[int] | None,
    raw: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Runs a run again: the same snapshot of the code, the same job, the same hosts. Secrets come
    from the environment here."""
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    client = new_client(find_inventory(None), screen.ask_passphrase)
    started = begin(
        client,
        lambda client: client.rerun(
            word, detach=detach, on_event=screen.on_event, on_log=screen.on_log
        ),
        screen,
        detach,
        as_json,
    )
    ctx.exit(asyncio.run(started))
