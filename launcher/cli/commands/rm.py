"""``launcher rm``: forgets a run, here and there."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...api import runs as api
from ...fleet.fanout import Place, visit
from ...spec.errors import HostError, InputError
from ...spec.model import Node
from .. import complain
from ..run_argument import run_argument

if TYPE_CHECKING:
    from ...runner.attach import Attached


@click.command("rm")
@run_argument
@click.option("--force", is_flag=True, help="Forget it here even if a host cannot be reached.")
@click.pass_context
def command(ctx: click.Context, word: str, force: bool) -> None:
    """Removes a run that has ended: its folder here, and on every host. Outputs that were not copied
    elsewhere are gone then."""
    from ...records import catalog

    path = catalog.find(word)
    try:
        run = api.attached(path.name)
    except InputError:  # it never came as far as a host
        _remove(path)
        return
    if run.holder() is not None:
        raise InputError(f"{run.name} goes on, and is followed here", f"launcher stop {run.name}")
    with api.hosts_of(run.request):
        found = asyncio.run(visit(run.request, run.layout, _forget, _nodes(run)))
    bad = [result for result in found.values() if isinstance(result, HostError)]
    for error in bad:
        complain(error)
    if bad and not force:
        click.echo(f"{run.name} stays here: launcher rm --force forgets it anyway", err=True)
        ctx.exit(1)
    _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path)
    click.echo(f"{path.name} is forgotten")


def _nodes(run: Attached) -> list[Node]:
    """Also hosts that were lost and replaced: they may be back."""
    nodes = {node.host.name: node for node in run.layout.nodes}
    receipt = run.receipt()
    names = [host.host for host in receipt.hosts if host.host not in nodes] if receipt else []
    others = [Node(run.request.inventory.host(name), 0, 0, 0) for name in names]
    return [*nodes.values(), *others]


async def _forget(place: Place) -> None:
    agent = await place.agent()
    try:
        await agent.ask("remove", run=place.run)
    finally:
        await agent.close()
