"""``launcher warm``: the Pythons that hosts keep for the next run, and how to end them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...api.hosts import narrowed
from ...spec.errors import HostError
from .. import options
from ..answers import answers_of
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.kept_pythons import ended_text, kept_text
from ..render.messages import complain_of_hosts
from ..run_argument import new_client

if TYPE_CHECKING:
    from ...api.client import Kept


@click.command("warm")
@options.inventory
@options.hosts
@click.option("--end", is_flag=True, help="End them all, at once.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, inventory: str | None, hosts: str | None, end: bool, as_json: bool
) -> None:
    """Show the Pythons that hosts keep for your next run, with what they have imported: those that runs
    with --keep-warm have left. Runs that go on are not shown.

    The exit code is 1 if a host did not answer.
    """
    there = narrowed(loaded(inventory), hosts or None)
    answers = answers_of(len(there.on), new_client(there).kept_pythons(end))
    known: dict[str, Kept] = {}
    for name, one in answers.items():
        if not isinstance(one, HostError):
            known[name] = one
    failed = [one for one in answers.values() if isinstance(one, HostError)]
    if as_json:
        value = {
            name: {"error": one.message} if isinstance(one, HostError) else asdict(one)
            for name, one in answers.items()
        }
        click.echo(json.dumps(value, indent=2))
    elif known:
        click.echo(ended_text(known) if end else kept_text(known, time.time(), output_width()))
    complain_of_hosts(failed)
    ctx.exit(1 if failed else 0)
