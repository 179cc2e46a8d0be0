"""``launcher project``: what each project has and may have; the one that this user's runs have."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from ...api import settings
from ...api.hosts import share_changed
from ...api.jobs import NO_PROJECT, rule_of
from ...spec.errors import InputError
from .. import options
from ..answers import answers_of
from ..grouped import CommandGroup
from ..inventory_lookup import loaded
from ..render.columns import output_width
from ..render.projects import projects_text
from ..run_argument import new_client
from ..settings import found_settings


@click.group("project", cls=CommandGroup)
def command() -> None:
    """Show and change the projects of the inventory, and choose the one of your runs."""


@command.command("ls")
@options.inventory
@options.as_json
@click.pass_context
def ls_command(ctx: click.Context, inventory: str | None, as_json: bool) -> None:
    """Show quota, limit, GPUs in use and borrowed ones of each project, and its runs.

    The exit code is 1 when so few hosts answer that no quota could be decided on.
    """
    there = loaded(inventory)
    if not there.projects:
        raise InputError(
            f"{there.source} has no projects",
            "add them there: projects: {team-a: {quota: 4, users: [ann, bob]}}",
        )
    shares, silent = answers_of(len(there.on), new_client(there).projects())
    own = settings.project_of_runs(found_settings())
    if as_json:
        value = {"projects": [asdict(one) for one in shares], "own": own, "silent": silent}
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(projects_text(shares, own, output_width()))
    answering = len(there.on) - len(silent)
    decided = answering > len(there.hosts) // 2
    if silent:
        ending = "" if decided else "; a quota is decided on more than half of all hosts: runs wait"
        click.echo(f"could not ask {', '.join(silent)}{ending}", err=True)
    ctx.exit(0 if decided else 1)


@command.command("quota")
@click.argument("name")
@click.argument("gpus", type=click.IntRange(0, 1 << 16))
@click.option(
    "--limit",
    type=click.IntRange(0, 1 << 16),
    metavar="N",
    help="The most GPUs it may have, borrowed ones included (default: as it is).",
)
@click.option("--no-limit", is_flag=True, help="It may borrow all GPUs that are free.")
@options.inventory
@click.option("-y", "--yes", is_flag=True, help="Write it without asking.")
@click.pass_context
def quota_command(
    ctx: click.Context,
    name: str,
    gpus: int,
    limit: int | None,
    no_limit: bool,
    inventory: str | None,
    yes: bool,
) -> None:
    """Change the quota of a project in the inventory, after showing the diff.

    Runs that were started before, also those that wait, keep the old one. The exit code is 1 if you do
    not agree.
    """
    if no_limit and limit is not None:
        raise InputError("--limit and --no-limit exclude each other", "leave out one of them")
    there = loaded(inventory, connects=False)
    if limit is None and not no_limit:
        limit = rule_of(there, name).limit
        if limit is not None and limit < gpus:
            raise InputError(
                f"a quota of {gpus} is above the limit of project {name}, which is {limit}",
                "--limit N raises it, --no-limit lifts it",
            )
    change = share_changed(there.source, name, gpus, limit)
    if not change.diff:
        click.echo(f"project {name} has this quota already", err=True)
        return
    for line in change.diff.splitlines():
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))
    if not yes:
        if not sys.stdin.isatty():
            raise InputError(f"{there.source} is not changed", "--yes writes it")
        if not click.confirm(f"Write {there.source}?", err=True):
            ctx.exit(1)
    change.write()
    click.echo(f"{there.source} is changed; all who share these hosts need the same file", err=True)


@command.command("set")
@click.argument("name")
@options.inventory
def set_command(name: str, inventory: str | None) -> None:
    """Let your runs have a project unless they name another one; none: they have none."""
    if name != NO_PROJECT:
        rule_of(loaded(inventory), name)
    file = settings.set_user_value("project", None if name == NO_PROJECT else name)
    what = "of no project" if name == NO_PROJECT else f"of project {name}"
    click.echo(f"your runs are {what} now, unless they say otherwise: {file}", err=True)
