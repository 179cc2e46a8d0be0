"""``launcher gpus``: the GPUs of all hosts, which are free, and who uses the others."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from ...api.hosts import narrowed
from ...spec.errors import HostError
from ...spec.model import Inventory
from .. import options, output
from ..answers import answers_of
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.gpus import gpus_json, gpus_text
from ..render.messages import complain_of_hosts
from ..render.tables import counted
from ..run_argument import new_client

#: Seconds between two looks of --watch.
PAUSE = 5.0


@click.command("gpus")
@options.inventory
@options.hosts
@click.option("--watch", is_flag=True, help="Look again every 5 seconds, until Ctrl-C.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, inventory: str | None, hosts: str | None, watch: bool, as_json: bool
) -> None:
    """Show the GPUs of all hosts: models, how many are free, who uses the others and since when.

    Users outside of launcher are shown, too. The exit code is 1 when no host could be asked.
    """
    there = narrowed(loaded(inventory), hosts or None)
    while watch:
        answers = _ask(there)
        click.clear()
        _show(answers, there.off, as_json)
        if output.is_unread():
            ctx.exit(0)
        click.echo(time.strftime("%H:%M:%S, again in 5 s; Ctrl-C ends"), err=True)
        time.sleep(PAUSE)
    answers = _ask(there)
    _show(answers, there.off, as_json)
    failed = [one for one in answers.values() if isinstance(one, HostError)]
    ctx.exit(1 if failed and len(failed) == len(answers) else 0)


def _ask(inventory: Inventory) -> dict[str, Any]:
    return dict(answers_of(len(inventory.on), new_client(inventory).host_gpus()))


def _show(answers: dict[str, Any], off: dict[str, str], as_json: bool) -> None:
    known = {name: one for name, one in answers.items() if not isinstance(one, HostError)}
    failed = [one for one in answers.values() if isinstance(one, HostError)]
    if as_json:
        click.echo(json.dumps(gpus_json(answers, off), indent=2))
    elif known or off:
        click.echo(gpus_text(known, time.time(), off, output_width()))
    complain_of_hosts(failed)
    if failed:
        click.echo(f"could not ask {len(failed)} of {counted(len(answers), 'host')}", err=True)
