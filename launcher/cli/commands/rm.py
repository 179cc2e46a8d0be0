"""``launcher rm``: delete runs, here and on their hosts."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from ...api.client import AsyncClient, Summary
from ...records.receipt import NotBrought
from ...records.state import ENDED
from ...spec.errors import LauncherError, RunKept
from .. import options
from ..render.hints import below_error
from ..render.messages import complain_of_hosts
from ..render.not_brought import also, loss
from ..render.tables import counted
from ..run_argument import new_client
from ..several_runs import agreed, chosen, several_runs

#: Runs that are asked about, or deleted, at once.
AT_ONCE = 4


@click.command("rm")
@several_runs
@click.option("--failed", is_flag=True, help="Only runs that failed or were lost.")
@click.option("--force", is_flag=True, help="Delete them here even if a host is unreachable.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    older: str | None,
    tags: tuple[str, ...],
    failed: bool,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete runs that have ended: their folders here, outputs included, and on every host.

    RUN may be a pattern such as 'sweep-*'; --failed, --older and --tag choose among all runs. You
    are asked before several are deleted, and before files are that were never brought back.
    """
    runs, many = chosen(words, older, failed, tags)
    if many:  # runs that have not ended stay, as nobody named them
        runs = [run for run in runs if run.status in ENDED]
        if not runs:
            click.echo("no run that has ended matches", err=True)
            ctx.exit(0)
        if not agreed("Delete them?", runs, yes):
            ctx.exit(1)
    deleted, kept = asyncio.run(_remove(runs, force, yes, as_json))
    if as_json:
        click.echo(json.dumps({"deleted": deleted, "kept": kept}, indent=2))
    ctx.exit(1 if kept else 0)


async def _remove(
    runs: list[Summary], force: bool, yes: bool, quiet: bool
) -> tuple[list[str], list[str]]:
    """Delete runs as far as their user agrees; return the names of those deleted, and of the others."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with new_client() as client:

        async def left(run: Summary) -> tuple[NotBrought, ...]:
            async with gate:
                return await _left(client, run)

        async def remove(run: Summary) -> bool:
            async with gate:
                return await _remove_one(client, run, force, quiet)

        lost = [()] * len(runs) if yes else await asyncio.gather(*map(left, runs))
        doomed = [run for run, files in zip(runs, lost, strict=True) if _may_lose(run.run, files)]
        done = await asyncio.gather(*map(remove, doomed))
    deleted = [run.run for run, is_gone in zip(doomed, done, strict=True) if is_gone]
    return deleted, [run.run for run in runs if run.run not in deleted]


async def _left(client: AsyncClient, run: Summary) -> tuple[NotBrought, ...]:
    """Return what hosts alone have; nothing of a run that cannot be read or is followed, which rm
    reports itself."""
    if run.followed:
        return ()
    try:
        return await client.attach_here(run.run).not_brought()
    except LauncherError:
        return ()


async def _remove_one(client: AsyncClient, run: Summary, force: bool, quiet: bool) -> bool:
    try:
        unreachable = await client.rm(run.run, force)
    except RunKept as kept:
        complain_of_hosts(kept.errors)
        click.echo(f"{kept.message}: {kept.hint}", err=True)
        return False
    complain_of_hosts(unreachable)
    cleaned = len(run.hosts) - len(unreachable)
    there = f" and on {counted(cleaned, 'host')}" if cleaned > 0 else ""
    if not quiet:
        click.echo(f"deleted {run.run} here{there}")
    return True


def _may_lose(run: str, left: tuple[NotBrought, ...]) -> bool:
    """Return whether the user agrees to lose files that only hosts have; True if there are none."""
    if not left:
        return True
    click.echo(f"{run}: this also deletes {loss(left)}", err=True)
    if sys.stdin.isatty():
        return click.confirm(f"Delete {run}?", err=True)
    option = f" {also(outside)}" if (outside := [one for one in left if one.path]) else ""
    hint = f"launcher pull {run}{option} brings it; launcher rm -y {run} deletes it"
    click.echo(f"not deleted: {run}", err=True)
    click.echo(below_error(hint), err=True)
    return False
