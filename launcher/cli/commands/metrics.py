"""``launcher metrics``: how busy the hosts of a run were."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .. import options
from ..render.columns import width_of
from ..render.metrics import gpu_lines, metrics_table, spent
from ..render.tables import cut
from ..run_argument import attached, run_argument

if TYPE_CHECKING:
    from ...api.handles import AsyncRunHandle


@click.command("metrics")
@run_argument
@options.as_json
def command(word: str, as_json: bool) -> None:
    """Show how busy the hosts of a run were: processors, memory, network, disks and its GPUs.

    Hosts measure themselves every 5 seconds while a run goes on. All that a host does counts, not only
    the run; of its GPUs, those of the run. --json prints every value: percent, bytes, bytes a second,
    and of GPUs MiB, watts and degrees Celsius.
    """
    run = asyncio.run(_found(word))
    taken, use = run.metrics(), run.use()
    if as_json:
        hosts = {
            host: {"use": asdict(use[host]), "samples": [asdict(one) for one in samples]}
            for host, samples in taken.items()
            if host in use
        }
        click.echo(json.dumps({"run": run.name, "hosts": hosts}, indent=2))
    elif use:
        click.echo(f"{run.name}  measured for {spent(use)}")
        click.echo()
        width = width_of(sys.stdout)
        for line in metrics_table(taken, use, plain=not sys.stdout.isatty()).splitlines():
            click.echo(cut(line, width))
        for line in gpu_lines(use, width):
            click.echo(line)
    else:
        text = f"nothing was measured of {run.name}: hosts begin 2 seconds after its first process"
        click.echo(text, err=True)


async def _found(word: str) -> AsyncRunHandle:
    async with attached(word) as run:
        return run
