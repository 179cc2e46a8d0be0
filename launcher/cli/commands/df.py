"""``launcher df`` and ``launcher prune``: disk space that runs take, and how to get it back."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...api import housekeeping
from ...api.hosts import select_hosts
from ...api.housekeeping import Here, PrunePlan, There
from ...api.jobs import seconds
from ...spec.errors import HostError, InputError
from .. import options
from ..answers import answers_of
from ..inventory_lookup import find_inventory, loaded
from ..render.disk_use import plan_text, usage_text
from ..render.messages import complain_of_hosts
from ..run_argument import passphrases

if TYPE_CHECKING:
    from ...spec.model import Host, Inventory

#: Runs, code and so on that were not used for so long are old.
OLD = "30d"


@click.command("df")
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def df_command(ctx: click.Context, inventory: str | None, hosts: str | None, as_json: bool) -> None:
    """Show what runs, code, agents, data sets, environments and images take on disk, here and on every
    host. Images are those that launcher brought; two that share layers count them twice.

    Without an inventory, only this machine is looked at. The exit code is 1 if a host did not answer.
    `launcher du` is the same command.
    """
    _, here, there = _measured(inventory, hosts)
    failed = [error for error in there.values() if isinstance(error, HostError)]
    if as_json:
        value = {
            "here": asdict(here),
            "hosts": {
                host: {"error": one.message} if isinstance(one, HostError) else asdict(one)
                for host, one in there.items()
            },
        }
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(usage_text(here, there))
    complain_of_hosts(failed)
    ctx.exit(1 if failed else 0)


@click.command("prune")
@options.inventory
@options.hosts
@click.option(
    "--older",
    default=OLD,
    metavar="T",
    help=f"Only what nothing has used for T (default: {OLD}); old agents go at any age.",
)
@click.option("--keep-outputs", is_flag=True, help="Keep runs here that have outputs.")
@click.option(
    "--unknown", is_flag=True, help="Also runs on hosts that this machine has no record of."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted.")
@options.as_json
@click.pass_context
def prune_command(
    ctx: click.Context,
    inventory: str | None,
    hosts: str | None,
    older: str,
    keep_outputs: bool,
    unknown: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete runs that have ended, old code, environments, images and agents, here and on every host.

    It shows the list and asks. Active runs stay, and so do runs whose hosts have files that were never
    brought back. Of images, only those go that launcher brought. What this machine remembers of sources
    of data sets and of builds of images goes as well, unless a data set with a name needs it.
    """
    try:
        age = seconds(older)
    except ValueError as error:
        raise InputError(f"--older: {error}") from None
    found, here, there = _measured(inventory, hosts)
    plan = housekeeping.plan_prune(here, there, age, keep_outputs=keep_outputs, unknown=unknown)
    complain_of_hosts([one for one in there.values() if isinstance(one, HostError)])
    if dry_run and as_json:
        click.echo(json.dumps({**asdict(plan), "total": plan.total}, indent=2))
    if not as_json:
        click.echo(plan_text(plan))
    if dry_run or not (plan.here or plan.caches or plan.notes or plan.hosts):
        ctx.exit(0)
    if not yes and not _agreed(plan):
        ctx.exit(1)
    _delete(ctx, found, plan, as_json)


def _delete(
    ctx: click.Context, inventory: Inventory | None, plan: PrunePlan, as_json: bool
) -> None:
    freed = asyncio.run(housekeeping.prune(inventory, plan, passphrases()))
    if as_json:
        click.echo(json.dumps(asdict(freed), indent=2))
    else:
        from ..render.disk_use import freed_text

        click.echo(freed_text(freed, plan))
    for host, why in freed.failed.items():
        click.secho(f"{host}: nothing was deleted: {why}", fg="yellow", err=True)
    ctx.exit(1 if freed.failed else 0)


def _agreed(plan: PrunePlan) -> bool:
    if sys.stdin.isatty():
        return click.confirm("Delete all of it?", err=True)
    click.echo("nothing was deleted: without a terminal, -y agrees", err=True)
    return False


def _measured(place: str | None, words: str | None) -> tuple[Inventory | None, Here, There]:
    found = find_inventory(place)
    inventory = loaded(found) if found or words else None
    hosts: tuple[Host, ...] = select_hosts(inventory, words) if inventory else ()
    here, there = answers_of(len(hosts), housekeeping.measure(inventory, hosts, passphrases()))
    return inventory, here, there
