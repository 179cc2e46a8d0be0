"""``launcher attach`` and ``launcher stop``: a run that began elsewhere, to its end."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from ...api import runs
from ...jobs import job_file as jobs
from ...spec.errors import InputError
from ...spec.model import Node
from .. import complain, options
from ..follow import live
from ..run_argument import run_argument, taken_up

if TYPE_CHECKING:
    from ...records.receipt import Receipt
    from ...runner.attach import Attached
    from ..render.run_view import Screen


@click.command("attach")
@run_argument
@options.ranks
@options.raw
@options.receipt_as_json
@click.pass_context
def attach_command(
    ctx: click.Context, word: str, ranks: frozenset[int] | None, raw: bool, as_json: bool
) -> None:
    """Goes on with a run as if never gone, at the exact byte where it was left.

    Ctrl-C ends the run, as in `launcher run`; to look only: launcher logs -f.
    """
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    run = taken_up(word, screen.on_event, screen.on_log)
    with runs.hosts_of(run.request):
        receipt = asyncio.run(_show(screen, run))
    if as_json:
        click.echo(json.dumps(receipt.to_json(), indent=2))
    ctx.exit(receipt.exit_code)


async def _show(screen: Screen, run: Attached) -> Receipt:
    return await live(screen, run, run.follow(), run.stop, run.remember, run.pull_now)


async def _clean(run: Attached) -> None:
    """Hosts that could not be reached when the run ended, if they can be now."""
    from ...fleet.cleanup import unfinished
    from ...fleet.fanout import Place, visit

    async def one(place: Place) -> None:
        await (await place.agent()).close()

    # A host that was lost and replaced is no node any more.
    nodes = [
        Node(host, 0, 0, 0, root=host.workdir)
        for host in run.request.inventory.hosts
        if run.name in unfinished(host.name)
    ]
    if nodes:
        for error in (await visit(run.request, run.layout, one, nodes)).values():
            if error is not None:
                complain(error)


@click.command("stop")
@run_argument
@click.option("--grace", metavar="T", help="Between asking to end and killing.")
@options.receipt_as_json
@click.pass_context
def stop_command(ctx: click.Context, word: str, grace: str | None, as_json: bool) -> None:
    """Ends a run on all its hosts, brings its outputs back, and prints the receipt.

    Exit code 0 when nothing of it is left on any host.
    """
    from ..render.run_view import Screen

    try:
        seconds = None if grace is None else jobs.seconds(grace)
    except ValueError as error:
        raise InputError(f"--grace: {error}") from None
    screen = Screen(ranks=frozenset(), logs_to_stderr=as_json)
    run = taken_up(word, screen.on_event)
    if run.receipt():
        click.echo(f"{run.name} has ended already", err=True)
        asyncio.run(_clean(run))
    run.stop(seconds)
    with runs.hosts_of(run.request):
        receipt = asyncio.run(_show(screen, run))
    if as_json:
        click.echo(json.dumps(receipt.to_json(), indent=2))
    ctx.exit(0 if all(host.left == 0 for host in receipt.hosts) else 1)
