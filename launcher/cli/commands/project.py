"""``launcher project``: what each project has and may have; the one that this user's runs have."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import click

from ...api import settings
from ...api.jobs import NO_PROJECT, rule_of
from ...spec.errors import InputError
from .. import options
from ..inventory_lookup import loaded
from ..render.projects import projects_text
from ..run_argument import new_client
from ..settings import found_settings


@click.group("project")
def command() -> None:
    """Show the projects of the inventory, and choose the one of your runs."""


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
    shares, silent = asyncio.run(new_client(there).projects())
    own = settings.project_of_runs(found_settings())
    if as_json:
        value = {"projects": [asdict(one) for one in shares], "own": own, "silent": silent}
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(projects_text(shares, own))
    answering = len(there.on) - len(silent)
    decided = answering > len(there.hosts) // 2
    if silent:
        ending = "" if decided else "; a quota is decided on more than half of all hosts: runs wait"
        click.echo(f"could not ask {', '.join(silent)}{ending}", err=True)
    ctx.exit(0 if decided else 1)


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
