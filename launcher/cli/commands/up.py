"""``launcher up``: keep a cluster over hosts until it is stopped."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from ...api import clusters, jobs
from .. import completion, options
from ..asked import asked_for
from ..before_copy import ask_about_size
from ..follow import begin, tell_detached
from ..grouped import GroupedCommand
from ..inventory_lookup import loaded
from ..run_argument import new_client

if TYPE_CHECKING:
    from ...api.client import AsyncClient
    from ...api.handles import AsyncRunHandle
    from ...records.receipt import Receipt

EXAMPLES = (
    "launcher up --framework ray --nodes 4 --gpus 32",
    "launcher up --framework dask --nodes 2 --nproc-per-node 8 --time 8h",
)


@click.command("up", cls=GroupedCommand, examples=EXAMPLES)
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", metavar="N", help="Number of hosts.")
@options.gpus("Total GPUs over all hosts, as 4 or A100:4; launcher chooses the hosts.")
@options.nproc_per_node
@click.option(
    "--framework",
    envvar="LAUNCHER_FRAMEWORK",
    show_envvar=True,
    metavar="NAME",
    help="dask or ray.",
    shell_complete=completion.words(*clusters.FRAMEWORKS),
)
@options.run_name
@options.workdir
@options.data
@options.env
@options.secret
@options.python
@options.conda
@options.uv
@options.image
@options.prepare
@options.setup
@options.share
@options.max_restarts
@options.waiting
@options.tags
@options.note
@options.yes
@click.option("--json", "as_json", is_flag=True, help="Print its name as JSON on stdout.")
@click.pass_context
def command(ctx: click.Context, /, yes: bool, as_json: bool, **flags: Any) -> None:
    """Keep a Dask or Ray cluster over hosts, until launcher stop.

    It is a run without a script, which continues in the background: this returns when all hosts have
    joined, and prints the address of the cluster and the command for its dashboard.
    """
    from ..render.run_view import Screen

    asked = asked_for(ctx, clusters.KEEP, flags)
    asked.layers["flag"].setdefault("name", flags["framework"] or "cluster")
    job, given = jobs.layered_job(asked.layers), dict(asked.options)
    clusters.check(job)
    hosts = loaded(given.pop("inventory", None))
    ask_about_size(job, yes)
    for name in ("detach", "ranks", "raw", "stdin"):  # of a screen, and settings may have them
        given.pop(name, None)
    given.setdefault("stall_timeout", clusters.NEVER)
    if "wait" not in given:
        given["wait"] = float("inf") if jobs.can_wait(job) and sys.stderr.isatty() else 0.0
    run_options = jobs.run_options(given)
    screen = Screen(logs_to_stderr=as_json)
    joined = ""

    async def start(client: AsyncClient) -> AsyncRunHandle:
        return await client.run(job, detach=True, on_event=screen.on_event, **run_options)

    async def ready(run: AsyncRunHandle) -> Receipt | None:
        nonlocal joined
        found = await clusters.until_joined(run)
        if not isinstance(found, str):
            return found
        joined = found
        return None

    def tell(run: AsyncRunHandle) -> None:
        if not joined:
            tell_detached(run)
            return
        for number, line in enumerate(joined.split("; ")):
            click.echo(f"{'  ' if number else ''}{line}", err=True)
        click.echo(f"  stop: launcher stop {run.name}", err=True)

    client = new_client(hosts)
    ctx.exit(asyncio.run(begin(client, start, screen, True, as_json, tell, ready)))
