"""``launcher attach`` and ``launcher stop``: follow a started run until it ends."""

from __future__ import annotations

import asyncio

import click

from ...api.jobs import seconds
from ...spec.errors import InputError
from .. import complain, options, trust
from ..follow import End, shown
from ..run_argument import attached, run_argument


@click.command("attach")
@run_argument
@options.ranks
@options.raw
@trust.option
@options.receipt_as_json
@click.pass_context
def attach_command(
    ctx: click.Context,
    word: str,
    ranks: frozenset[int] | None,
    raw: bool,
    trust_record: bool,
    as_json: bool,
) -> None:
    """Follow a running run again, from where you left off.

    Ctrl-C asks whether to stop the run, to detach, or to continue; without a terminal it stops the
    run. If another machine started the run and its hosts disagree on it or name secrets, you are asked
    before it may be restarted from here.
    """
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)

    async def to_the_end() -> tuple[str, End]:
        async with attached(word, screen.on_event, screen.on_log) as run:
            asks = run.receipt is None and run.may_start_again and run.doubts
            if asks and (trust_record or trust.agreed(run, "starting it again")):
                run.trust()
            return run.name, await shown(screen, run)

    name, end = asyncio.run(to_the_end())
    if as_json:
        click.echo(end.to_json(name))
    ctx.exit(end.code)


@click.command("stop")
@run_argument
@click.option("--grace", metavar="T", help="Time between SIGTERM and SIGKILL.")
@options.receipt_as_json
@click.pass_context
def stop_command(ctx: click.Context, word: str, grace: str | None, as_json: bool) -> None:
    """Stop a run on all its hosts, bring its outputs back, and print the receipt.

    The exit code is 0 if no process of the run is left on any host.
    """
    from ..render.run_view import Screen

    try:
        patience = None if grace is None else seconds(grace)
    except ValueError as error:
        raise InputError(f"--grace: {error}") from None
    screen = Screen(ranks=frozenset(), logs_to_stderr=as_json)

    async def to_the_end() -> tuple[str, End]:
        async with attached(word, screen.on_event) as run:
            if run.receipt:
                click.echo(f"{run.name} has ended already", err=True)
                for error in await run.finish():
                    complain(error)
            run.request_stop(patience)
            return run.name, await shown(screen, run, asks_after=None)

    name, end = asyncio.run(to_the_end())
    if as_json:
        click.echo(end.to_json(name))
    if end.receipt is None:
        ctx.exit(end.code)
    ctx.exit(0 if all(host.left == 0 for host in end.receipt.hosts) else 1)
