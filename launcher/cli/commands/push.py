"""``launcher push``: copy a folder to hosts."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import click

from ...records import events as ev
from ...spec import nodeset
from ...spec.errors import HostError
from ...spec.sizes import size
from .. import options
from ..again import Again, continued
from ..inventory_lookup import loaded
from ..render.messages import complain_of_hosts
from ..render.run_view import Screen
from ..render.tables import counted
from ..run_argument import new_client


@click.command("push")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@options.inventory
@options.hosts
@click.option("--to", metavar="PATH", help="Folder there: /data/x, or ~/x (default: ~/DIR).")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Leave out files, such as '*.tmp'."
)
@options.max_rate
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    inventory: str | None,
    hosts: str | None,
    to: str | None,
    exclude: tuple[str, ...],
    max_rate: str | None,
    as_json: bool,
) -> None:
    """Copy what is in DIR to hosts at once: data that runs should find there (needs: in a job).

    Only what has changed travels, and nothing is deleted there. Without --hosts all hosts get it. The
    exit code is 1 if a host did not.
    """
    rate = options.rate_of(max_rate)
    with continued("the next push", Again()):
        done = asyncio.run(_push(inventory, hosts, folder, to, exclude, rate))
    errors = [one for one in done.values() if isinstance(one, HostError)]
    sent = {host: one.sent for host, one in done.items() if not isinstance(one, HostError)}
    if as_json:
        failed = {error.host: error.message for error in errors}
        click.echo(json.dumps({"sent": sent, "failed": failed}, indent=2))
    elif sent:
        names = nodeset.fold(sent)
        total = size(sum(sent.values()))
        click.echo(f"{folder} is on {counted(len(sent), 'host')} ({names}); {total} sent", err=True)
    complain_of_hosts(errors)
    ctx.exit(1 if errors else 0)


async def _push(
    inventory: str | None,
    hosts: str | None,
    folder: Path,
    to: str | None,
    exclude: tuple[str, ...],
    rate: int,
) -> dict[str, Any]:
    screen = Screen()
    async with new_client(loaded(inventory)) as client, screen:
        screen.on_event(ev.StageStarted(time.time(), "push"))
        return await client.push(
            folder, hosts, to=to, exclude=exclude, max_rate=rate, on_event=screen.on_event
        )
