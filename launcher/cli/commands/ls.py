"""``launcher ls``: the runs of this machine."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import Any

import click

from ...api.client import AsyncClient, Client, Summary
from ...records.reasons import EndReason
from ...records.state import ENDED
from ...spec import nodeset
from ...spec.errors import HostError
from ...spec.gpus import fold
from .. import complain_of_hosts, options
from ..inventory_lookup import loaded
from ..render.folding import groups
from ..render.tables import age, counted, table

_COLOUR = {"succeeded": "green", "failed": "red", "lost": "red", "stopped": "yellow"}
#: The reason that says no more than the status, and is not shown.
_PLAIN_SUCCESS = EndReason.ALL_EXITED_0
#: Without --all, this many of the latest runs are listed, and those still followed.
LATEST = 20


@click.command("ls")
@click.option(
    "-a", "--all", "everything", is_flag=True, help=f"List all runs, not only the latest {LATEST}."
)
@click.option("--all-users", is_flag=True, help="Ask the hosts for running runs of all users.")
@click.option("-i", "--inventory", help="Inventory of the hosts to ask.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, everything: bool, all_users: bool, inventory: str | None, as_json: bool
) -> None:
    """List runs, the latest first: status, age, hosts."""
    if all_users:
        ctx.exit(_on_the_hosts(inventory, as_json))
    found = Client().list()
    shown = found if everything else [r for i, r in enumerate(found) if i < LATEST or r.followed]
    if as_json:
        click.echo(json.dumps([asdict(run) for run in shown], indent=2))
        return
    if not shown:
        click.echo("no runs yet; start one with: launcher run SCRIPT", err=True)
        return
    now = time.time()
    rows = [
        (
            run.run,
            run.status,
            _reason(run),
            age(now - run.started),
            nodeset.fold(run.hosts) if run.hosts else "-",
            str(run.ranks or "-"),
            str(run.gpus or "-"),
        )
        for run in shown
    ]
    head, *lines = table(("run", "status", "reason", "age", "hosts", "ranks", "gpus"), rows).split(
        "\n"
    )
    click.echo(click.style(head, dim=True))
    for run, line in zip(shown, lines, strict=True):
        colour = _COLOUR.get(run.status)
        styled = click.style(run.status, fg=colour) if colour else run.status
        click.echo(line[: len(run.run)] + line[len(run.run) :].replace(run.status, styled, 1))
    for run in shown:
        if run.damaged:
            click.echo(f"warning: {run.damaged}; the rest of it counts", err=True)
    if len(shown) < len(found):
        click.echo(f"and {len(found) - len(shown)} older ones: launcher ls --all", err=True)


def _reason(run: Summary) -> str:
    if run.status not in ENDED and not run.followed:
        return "no launcher attached"
    return "-" if run.reason in ("", _PLAIN_SUCCESS) else run.reason


def _on_the_hosts(place: str | None, as_json: bool) -> int:
    """Print the running runs of all users; return 1 if no host could be asked."""
    answers = asyncio.run(AsyncClient(loaded(place)).host_runs())
    running = [
        {"host": host, **run}
        for host, answer in answers.items()
        if not isinstance(answer, HostError)
        for run in answer.running
    ]
    failed = [answer for answer in answers.values() if isinstance(answer, HostError)]
    answered = len(answers) - len(failed)
    if as_json:
        click.echo(json.dumps(running, indent=2))
    elif running:
        click.echo(running_text(running, time.time()))
    elif answered:
        click.echo(f"no runs on {counted(answered, 'host')}", err=True)
    complain_of_hosts(failed)
    if failed:
        click.echo(f"could not ask {len(failed)} of {counted(len(answers), 'host')}", err=True)
    return 0 if answered or not answers else 1


def running_text(running: list[dict[str, Any]], now: float) -> str:
    """Return a row for each run; hosts on which it holds the same GPUs are one."""
    gpus = [fold(run["gpus"]) if run["gpus"] else "-" for run in running]
    keys = [(run["user"], run["run"], held) for run, held in zip(running, gpus, strict=True)]
    rows = []
    for group in groups(running, keys):
        first = group[0]
        held = keys[running.index(first)][2]
        since = min(run["since"] for run in group)
        hosts = nodeset.fold(run["host"] for run in group)
        rows.append((hosts, first["user"], first["run"], held, age(now - since)))
    return table(("hosts", "user", "run", "gpus", "age"), rows)
