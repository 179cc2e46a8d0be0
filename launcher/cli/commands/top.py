"""``launcher top``: what the GPUs of all hosts do, who holds them, and who waits, as it changes."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import aclosing, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ...api.hosts import narrowed
from .. import keys, options
from ..answers import answers_of
from ..drawing import can_draw, draw, screen, size
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.top import top_text
from ..run_argument import new_client

if TYPE_CHECKING:
    from ...api.client import Cluster
    from ...spec.model import Inventory

#: Seconds between two looks.
PAUSE = 2.0
#: Columns and lines where there is no terminal: nothing is left out.
UNBOUNDED = 100_000


@click.command("top")
@options.inventory
@options.hosts
@click.option("--once", is_flag=True, help="Look once and end, as without a terminal.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, inventory: str | None, hosts: str | None, once: bool, as_json: bool
) -> None:
    """Show what the GPUs of all hosts do, who holds them, and who waits, as it changes. q ends.

    Programs outside launcher are shown, too. A host that does not answer is a line. The exit code is 1
    when no host could be asked.
    """
    there = narrowed(loaded(inventory), hosts or None)
    if not (once or as_json) and can_draw():
        asyncio.run(_live(there))
        return
    found = answers_of(len(there.on), new_client(there).cluster())
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo(top_text(found, output_width() or UNBOUNDED, UNBOUNDED, whole=True))
    asked = [one for one in found.hosts if not one.off]
    ctx.exit(1 if asked and all(one.problem for one in asked) else 0)


async def _live(inventory: Inventory) -> None:
    """Draw until the user presses q or Ctrl-C."""
    drawing = asyncio.ensure_future(_draw_all(inventory))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, drawing.cancel)

    def on_key(key: str) -> None:
        if key in "qQ":
            drawing.cancel()

    with screen(), keys.pressed(on_key) if keys.can_ask() else nullcontext():
        click.echo("connecting", err=True)
        await asyncio.wait({drawing})
    if not drawing.cancelled():
        drawing.result()  # it has failed


async def _draw_all(inventory: Inventory) -> None:
    async with aclosing(new_client(inventory).watch_cluster(PAUSE)) as looks:
        async for cluster in looks:
            _draw(cluster)


def _draw(cluster: Cluster) -> None:
    now = size()
    lines = top_text(cluster, now.columns, now.lines - 1).split("\n")
    draw(lines[: now.lines - 1])
