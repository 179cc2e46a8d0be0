"""``launcher forward``: reach a port of a run's host from this machine."""

from __future__ import annotations

import asyncio
import re

import click

from ...api import clusters
from ...spec.errors import HostError, InputError
from ..render.messages import complain
from ..run_argument import attached, run_argument


@click.command("forward")
@run_argument
@click.argument("ports", metavar="[PORT | LOCAL:PORT]", required=False)
@click.option("--node", type=click.IntRange(0), default=0, help="Node of the run (default: 0).")
@click.pass_context
def command(ctx: click.Context, word: str, ports: str | None, node: int) -> None:
    """Forward a port of this machine to a host of a run: TensorBoard, Jupyter, a debugger.

    Without PORT it is the dashboard of a Dask or Ray cluster. launcher tunnel is the same command.

    It goes through SSH to the host's own loopback, and is open to this machine alone. Ctrl-C ends it;
    the run continues.
    """
    if ports is None and node:
        raise InputError("the dashboard is on node 0", "leave --node out, or name a PORT")
    wanted = None if ports is None else _ports(ports)
    try:
        asyncio.run(_forward(word, wanted, node))
    except KeyboardInterrupt:
        ctx.exit(130)
    except HostError as error:
        complain(error)
        ctx.exit(error.exit_code)


def _ports(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})", text, re.A)
    found = (int(match[1] or match[2]), int(match[2])) if match else (0, 0)
    if not 0 < found[1] < 65536 or not found[0] < 65536:
        raise InputError(f"not a port: {text}", "such as 6006, or 16006:6006 for another one here")
    return found


async def _forward(word: str, wanted: tuple[int, int] | None, node: int) -> None:
    told = set()

    def ready(host: str, here: int) -> None:
        click.echo(
            f"http://127.0.0.1:{here} leads to port {port} of {host}; Ctrl-C ends it", err=True
        )

    def refused(error: HostError) -> None:
        if error.message not in told:  # a browser tries again and again
            told.add(error.message)
            complain(error)

    async with attached(word) as run:
        local, port = wanted or (0, await clusters.dashboard_port(run))
        await run.forward(port, local_port=local, node=node, on_ready=ready, on_refused=refused)
