"""``launcher reserve``: hold GPUs for work by hand, until a time that everybody sees."""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from ...api import jobs, settings
from ...api.reservations import moment
from ...spec.errors import InputError
from ...spec.gpus import fold
from .. import options
from ..asked import seconds
from ..follow import begin, tell_detached
from ..grouped import GroupedCommand
from ..inventory_lookup import loaded
from ..render.tables import due
from ..run_argument import new_client
from ..settings import found_settings

if TYPE_CHECKING:
    from ...api.client import AsyncClient
    from ...api.handles import AsyncRunHandle

EXAMPLES = (
    "launcher reserve gpu1 --gpus 4 --for 4h            now, or when its turn comes",
    "launcher reserve --gpus 4 --for 2h --at 14:00      first in line from then",
)


@click.command("reserve", cls=GroupedCommand, examples=EXAMPLES)
@click.argument("hosts", required=False)
@options.inventory
@options.gpus("How many GPUs over all hosts, as 4 or A100:4.")
@click.option("--for", "length", metavar="T", help="How long: 90m, 4h, 2d; 14 days at most.")
@click.option("--at", "at", metavar="TIME", help="Not before 14:00, or '2026-11-28 14:00'.")
@click.option("--name", metavar="NAME", default="", help="Part of its name, after reserved-.")
@click.option("--wait", metavar="T|forever", help="Wait this long for a turn, as with run.")
@click.option("--no-wait", is_flag=True, help="Fail at once where GPUs are in use, with 75.")
@click.option("--ignore-foreign", is_flag=True, help="Also GPUs in use outside launcher.")
@options.project
@options.note
@click.option("--json", "as_json", is_flag=True, help="Print its name as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    hosts: str | None,
    inventory: str | None,
    gpus: int | str | None,
    length: str | None,
    at: str | None,
    name: str,
    wait: str | None,
    no_wait: bool,
    ignore_foreign: bool,
    project: str | None,
    note: str | None,
    as_json: bool,
) -> None:
    """Hold GPUs of hosts for work by hand, until a time that everybody sees.

    HOSTS are names, node sets, groups or labels; all by default. A reservation is a run that does
    nothing: it waits its turn, launcher queue, gpus, top and ls show it, and launcher stop ends it.
    """
    from ..render.run_view import Screen

    if gpus is None or length is None:
        missing = "--gpus" if gpus is None else "--for"
        raise InputError(f"{missing} is missing", "launcher reserve gpu1 --gpus 4 --for 4h")
    lasts, begins = seconds("--for", length), _moment(at)
    waits = _wait(wait, no_wait, begins is not None)
    given = jobs.run_options(_project(project))
    given |= {"wait": waits, "ignore_foreign": ignore_foreign, "note": note or ""}
    screen = Screen(logs_to_stderr=as_json)

    async def start(client: AsyncClient) -> AsyncRunHandle:
        return await client.reserve(
            gpus,
            lasts,
            hosts,
            at=begins,
            name=name,
            on_event=screen.on_event,
            **given,
        )

    client = new_client(loaded(inventory))
    ctx.exit(asyncio.run(begin(client, start, screen, True, as_json, partial(_tell, lasts))))


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else moment(text, time.time())
    except ValueError as error:
        raise InputError(f"--at: {error}", "--at 14:00, or --at '2026-11-28 14:00'") from None


def _wait(wait: str | None, no_wait: bool, later: bool) -> float | None:
    """Return for how long to wait; by default for ever where somebody sees it, or expects it later."""
    if wait is not None and no_wait:
        raise InputError("--wait and --no-wait contradict each other", "leave one of them out")
    if wait is None:
        return None if not no_wait and (later or sys.stderr.isatty()) else 0.0
    try:
        return jobs.run_options({"wait": jobs.wait_time(wait)})["wait"]
    except ValueError as error:
        raise InputError(f"--wait: {error}") from None


def _project(flag: str | None) -> dict[str, str]:
    """Return the project of the flag, or else the one that settings name, as values of a job file."""
    named = flag or settings.project_of_runs(found_settings())
    return {"project": named} if named else {}


def _tell(lasts: float, run: AsyncRunHandle) -> None:
    """Say what is held until when, and how to use it; of one that waits, what any run says."""
    if run.state().waits or not run.layout.nodes:
        tell_detached(run)
        return
    end = due(time.time() + lasts, time.time())
    click.echo(f"{run.name} holds until {end}:", err=True)
    for node in run.layout.nodes:
        names = ",".join(node.gpu_names)
        variable = f"CUDA_VISIBLE_DEVICES={names}" if node.vendor == "nvidia" else ""
        click.echo(f"  {node.host.name} GPU {fold(node.gpus)}  {variable}".rstrip(), err=True)
    click.echo(f"  end it: launcher stop {run.name}", err=True)
