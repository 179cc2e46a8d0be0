"""``launcher ls``: the runs of this machine."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click

from ...api.client import Client, Summary, Wanted
from ...api.following import Refreshed
from ...api.jobs import NO_PROJECT, seconds
from ...records.state import ENDED
from ...spec import nodeset
from ...spec.errors import HostError, InputError
from ...spec.gpus import fold
from .. import options
from ..answers import answers_of
from ..grouped import GroupedCommand
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.folding import groups
from ..render.messages import complain_of_hosts
from ..render.refreshed import refreshed_lines
from ..render.run_list import run_list
from ..render.tables import age, counted, table
from ..run_argument import new_client

#: Without --all or --limit, this many of the latest runs are listed, and those still followed.
LATEST = 20


EXAMPLES = (
    "launcher ls --since 7d --failed",
    "launcher ls train.py lr=0.1 --tag paper",
    "launcher ls --all-users                 who runs what on the hosts",
)


@click.command("ls", cls=GroupedCommand, examples=EXAMPLES)
@click.argument("words", metavar="[WORD]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="List all runs that match.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help=f"List the latest N (default: {LATEST})."
)
@click.option(
    "--since", metavar="T", help="Only runs started in the last 2h, 7d; since today, 2026-11-20."
)
@click.option("--failed", is_flag=True, help="Only runs that failed or were lost.")
@click.option("--running", is_flag=True, help="Only runs that have not ended.")
@click.option("--host", metavar="NAMES", help="Only runs on one of these hosts: gpu[1-4].")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag.")
@click.option("--project", metavar="NAME", help="Only runs of this project; none: of no project.")
@click.option(
    "--user",
    metavar="NAME",
    help="Only runs as this user of their hosts; runs recorded before users were match none.",
)
@click.option("--no-refresh", is_flag=True, help="Do not ask hosts of runs that nobody follows.")
@click.option("--all-users", is_flag=True, help="Ask the hosts for running runs of all users.")
@click.option("-i", "--inventory", help="Inventory of the hosts to ask.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    everything: bool,
    limit: int | None,
    since: str | None,
    failed: bool,
    running: bool,
    host: str | None,
    tags: tuple[str, ...],
    project: str | None,
    user: str | None,
    no_refresh: bool,
    all_users: bool,
    inventory: str | None,
    as_json: bool,
) -> None:
    """List runs, the latest first: status, when, how long, commit, hosts, command.

    Each WORD has to occur in the name, the command, the commit or the note. Runs of which no process
    was started stand apart. Hosts of runs that nobody follows, as after a reboot, are asked for up to
    2 seconds, and runs whose hosts all answer are followed again in the background.
    """
    if all_users:
        ctx.exit(_on_the_hosts(inventory, user, as_json))
    now = time.time()
    begun = since_time(since, now)
    project = "" if project == NO_PROJECT else project
    wanted = Wanted(words, begun, failed, running, _hosts(host), frozenset(tags), project, user)
    client = Client()
    refreshed = Refreshed() if no_refresh else client.refresh()
    known = client.list()
    found = [run for run in known if wanted.fits(run)]
    shown = found if everything else _latest(found, limit)
    if as_json:
        rows = [{**asdict(run), "refreshed": _is_sure(run, refreshed)} for run in shown]
        click.echo(json.dumps(rows, indent=2))
        return
    if not shown:
        click.echo(_NOTHING if wanted == Wanted() else _NO_MATCH, err=True)
        return
    click.echo("\n".join(run_list(shown, now, output_width())))
    for run in shown:
        if run.damaged:
            click.echo(f"warning: {run.damaged}; the rest of it counts", err=True)
    if len(shown) < len(found):
        click.echo(f"and {len(found) - len(shown)} older ones: launcher ls --all", err=True)
    for line in refreshed_lines(refreshed, {run.run: run for run in known}):
        click.echo(line, err=True)


def _is_sure(run: Summary, refreshed: Refreshed) -> bool:
    """Return whether what is recorded of a run is up to date."""
    return run.status in ENDED or (run.followed and run.run not in refreshed.unknown)


_NO_MATCH = "no run matches; launcher ls --all lists all runs"
_NOTHING = "no runs yet; start one with: launcher run SCRIPT"


def _latest(runs: list[Summary], limit: int | None) -> list[Summary]:
    if limit is not None:
        return runs[:limit]
    return [run for i, run in enumerate(runs) if i < LATEST or run.followed]


def since_time(text: str | None, now: float) -> float | None:
    """Return the moment that ``--since`` names, in seconds since the epoch. Raises InputError."""
    if text is None:
        return None
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "today":
        return midnight.timestamp()
    if text == "yesterday":
        return (midnight - timedelta(days=1)).timestamp()
    with suppress(ValueError):
        return now - seconds(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise InputError(
            f"--since {text}: not a time", "write 2h, 7d, today, yesterday or 2026-11-20"
        ) from None


def _hosts(text: str | None) -> frozenset[str]:
    try:
        return frozenset(nodeset.expand(text)) if text else frozenset()
    except ValueError as error:
        raise InputError(f"--host {text}: {error}") from None


def _on_the_hosts(place: str | None, user: str | None, as_json: bool) -> int:
    """Print the running runs of all users, or of one; return 1 if no host could be asked."""
    there = loaded(place)
    answers = answers_of(len(there.on), new_client(there).host_runs())
    running = [
        {"host": host, **run}
        for host, answer in answers.items()
        if not isinstance(answer, HostError)
        for run in answer.running
        if user in (None, run["user"])
    ]
    failed = [answer for answer in answers.values() if isinstance(answer, HostError)]
    answered = len(answers) - len(failed)
    if as_json:
        click.echo(json.dumps(running, indent=2))
    elif running:
        click.echo(running_text(running, time.time()))
    elif answered:
        whose = f" of {user}" if user else ""
        click.echo(f"no runs{whose} on {counted(answered, 'host')}", err=True)
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
