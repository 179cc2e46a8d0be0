"""``launcher attach`` and ``launcher stop``: follow a started run until it ends."""

from __future__ import annotations

import asyncio
import json

import click

from ...api.client import Summary, is_pattern
from ...api.jobs import seconds
from ...records.receipt import Receipt
from ...records.state import ENDED
from ...spec import nodeset
from ...spec.errors import InputError, LauncherError
from .. import options, trust
from ..drawing import can_draw
from ..follow import End, shown
from ..render.messages import complain
from ..render.tables import counted
from ..run_argument import attached, check_ranks, new_client, run_argument
from ..several_runs import agreed, chosen, several_runs


@click.command("attach")
@run_argument
@options.ranks
@options.raw
@click.option(
    "--tail",
    type=click.IntRange(0),
    metavar="N",
    help="Of what was not shown yet, start with the last N lines of each log.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Show hosts, metrics, scalars and the last lines on one screen; q and Ctrl-C only leave.",
)
@trust.option
@options.receipt_as_json
@click.pass_context
def attach_command(
    ctx: click.Context,
    word: str,
    ranks: frozenset[int] | None,
    raw: bool,
    tail: int | None,
    live: bool,
    trust_record: bool,
    as_json: bool,
) -> None:
    """Follow a running run again, from where you left off.

    Ctrl-C asks whether to stop the run, to detach, or to continue; without a terminal it stops the
    run. If another machine started the run and its hosts disagree on it or name secrets, you are asked
    before it may be restarted from here. Without a terminal, --live changes nothing.
    """
    from ..render.run_view import Screen

    if live and (raw or tail is not None or as_json):
        raise InputError("--live takes no --raw, --tail or --json", "leave one of them out")
    draws = live and can_draw()
    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    listens = () if draws else (screen.on_event, screen.on_log)

    async def to_the_end() -> tuple[str, End]:
        async with attached(word, *listens) as run:
            check_ranks(run, ranks)
            if tail is not None:
                run.show_tail(tail)
            asks = run.receipt is None and (run.may_start_again or run.stores_outputs)
            if run.doubts and (trust_record or (asks and trust.agreed(run, "starting it again"))):
                run.trust()
            if run.receipt and not run.is_stored:
                try:
                    async with screen:
                        failed = await run.finish(screen.on_event)
                    for error in failed:
                        complain(error)
                except LauncherError as error:
                    complain(error)
            if draws and run.receipt is None:
                from ..live import watched

                return run.name, await watched(run, ranks)
            return run.name, await shown(screen, run)

    name, end = asyncio.run(to_the_end())
    if as_json:
        click.echo(end.to_json(name))
    ctx.exit(end.code)


@click.command("stop")
@several_runs
@click.option("--grace", metavar="T", help="Time between SIGTERM and SIGKILL.")
@options.receipt_as_json
@click.pass_context
def stop_command(
    ctx: click.Context,
    words: tuple[str, ...],
    older: str | None,
    tags: tuple[str, ...],
    yes: bool,
    grace: str | None,
    as_json: bool,
) -> None:
    """Stop runs on all their hosts, bring outputs back, and print the receipt.

    RUN may be a pattern such as 'sweep-*'; --older and --tag choose among all active runs. You are
    asked before several are stopped. The exit code is 0 if no process of a run is left on any host.
    """
    try:
        patience = None if grace is None else seconds(grace)
    except ValueError as error:
        raise InputError(f"--grace: {error}") from None
    if len(words) == 1 and not (older or tags or is_pattern(words[0])):
        ctx.exit(_stop_one(words[0], patience, as_json))
    runs, many = chosen(words, older, tags=tags)
    runs = [run for run in runs if not many or run.status not in ENDED]
    if not runs:
        click.echo("no active run matches", err=True)
        ctx.exit(0)
    if many and not agreed("Stop them?", runs, yes):
        ctx.exit(1)
    receipts = asyncio.run(_stop(runs, patience))
    if as_json:
        click.echo(json.dumps([one.to_json() for one in receipts], indent=2))
    left = any(host.left != 0 for receipt in receipts for host in receipt.hosts)
    ctx.exit(1 if left or len(receipts) < len(runs) else 0)


async def _stop(runs: list[Summary], grace: float | None) -> list[Receipt]:
    """Stop several runs at once, and print a line for each; return the receipts of those that ended."""
    async with new_client() as client:

        async def one(run: Summary) -> Receipt | None:
            try:
                receipt = await client.attach_here(run.run).stop(grace)
            except LauncherError as error:
                complain(error)
                return None
            unsure = [host.host for host in receipt.hosts if host.left is None]
            left = f"; not verified on {nodeset.fold(unsure)}" if unsure else ""
            alive = counted(receipt.left, "process")
            click.echo(f"{run.run}: {receipt.status}, {alive} left{left}", err=True)
            return receipt

        found = await asyncio.gather(*map(one, runs))
    return [receipt for receipt in found if receipt is not None]


def _stop_one(word: str, patience: float | None, as_json: bool) -> int:
    from ..render.run_view import Screen

    screen = Screen(ranks=frozenset(), logs_to_stderr=as_json)

    async def to_the_end() -> tuple[str, End]:
        async with attached(word, screen.on_event) as run:
            if run.receipt:
                click.echo(f"{run.name} has ended already", err=True)
                async with screen:
                    failed = await run.finish(screen.on_event)
                for error in failed:
                    complain(error)
            run.request_stop(patience)
            return run.name, await shown(screen, run, asks_after=None)

    name, end = asyncio.run(to_the_end())
    if as_json:
        click.echo(end.to_json(name))
    if end.receipt is None:
        return end.code
    return 0 if all(host.left == 0 for host in end.receipt.hosts) else 1
