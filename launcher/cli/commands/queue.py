"""``launcher queue``: who holds GPUs, who waits for them, and what for."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict

import click

from ...api.hosts import narrowed
from ...api.jobs import PRIORITIES
from ...spec.errors import InputError
from .. import options
from ..answers import answers_of
from ..grouped import CommandGroup
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.messages import complain_of_hosts
from ..render.queue import queue_text
from ..render.tables import counted
from ..run_argument import attached, new_client, run_argument


@click.group("queue", cls=CommandGroup, invoke_without_command=True)
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def command(ctx: click.Context, inventory: str | None, hosts: str | None, as_json: bool) -> None:
    """Show who holds the GPUs of the hosts, who waits for them, and what for.

    Runs of all users are shown. The exit code is 1 when no host could be asked.
    """
    if ctx.invoked_subcommand:
        return
    there = narrowed(loaded(inventory), hosts or None)
    queue, failed = answers_of(len(there.on), new_client(there).queue())
    if as_json:
        value = {**asdict(queue), "failed": {name: str(one) for name, one in failed.items()}}
        click.echo(json.dumps(value, indent=2))
    elif len(failed) < len(there.hosts):
        click.echo(queue_text(queue, time.time(), output_width()))
    complain_of_hosts(list(failed.values()))
    if failed:
        click.echo(f"could not ask {len(failed)} of {counted(len(there.hosts), 'host')}", err=True)
    ctx.exit(1 if failed and len(failed) == len(there.hosts) else 0)


@command.command("move")
@run_argument
@click.option("--first", is_flag=True, help="Before all others of the same priority.")
@click.option("--priority", type=click.Choice(list(PRIORITIES)), help="With another priority.")
def move_command(word: str, first: bool, priority: str | None) -> None:
    """Move a waiting run that was started here. Everybody sees it in the queue."""
    if not first and priority is None:
        raise InputError("where to?", "launcher queue move RUN --first, or --priority low")
    asyncio.run(_move(word, first, priority))


async def _move(word: str, first: bool, priority: str | None) -> None:
    async with attached(word) as run:
        run.move(None if priority is None else PRIORITIES[priority], first=first)
        where = [f"with {priority} priority"] if priority else []
        where += ["before all others of its priority"] if first else []
        click.echo(f"{run.name} waits {', '.join(where)}: launcher queue", err=True)
