"""``launcher config``: which settings hold here, and where each of them comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from ...api import settings
from ...api.settings import SettingsFile
from .. import completion, options
from ..grouped import CommandGroup
from ..render.columns import output_width
from ..render.settings import rows, settings_text
from ..settings import allow, found_settings, show


@click.group("config", cls=CommandGroup, invoke_without_command=True)
@options.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the settings that hold in this folder, each with the file and line it is from.

    Your own are in ~/.config/launcher/config.yaml, those of a project in .launcher.yaml or below
    [tool.launcher] in pyproject.toml, in this folder or one above it. Keys are those of a job file. A
    flag wins over the job file, that over the project, and that over yours.
    """
    if not ctx.invoked_subcommand:
        _show(as_json)


@command.command("show")
@options.as_json
def show_command(as_json: bool) -> None:
    """Show the settings that hold in this folder: the same as launcher config."""
    _show(as_json)


def _show(as_json: bool) -> None:
    files = found_settings()
    found = rows(files, _environment())
    if as_json:
        value = {
            "files": {"user": str(settings.user_file()), "project": _project(files)},
            "settings": [vars(row) for row in found],
        }
        click.echo(json.dumps(value, indent=2))
        return
    click.echo(settings_text(found, output_width()))
    lines = settings.delicate_lines(files)
    if not settings.are_allowed(lines):
        show([line for line in lines if not settings.are_allowed([line])])
        click.echo("allow them: launcher config allow", err=True)


@command.command("allow")
@click.argument("job", metavar="[JOB.yaml]", required=False, shell_complete=completion.scripts)
def allow_command(job: str | None) -> None:
    """Let delicate settings of this project, or of a job file, take effect; they are shown.

    Those are commands, secrets and --raw: files that came with somebody else's code may hold them.
    """
    files = (settings.of_job(job),) if job else settings.found()
    lines = settings.delicate_lines(files)
    if not lines:
        click.echo("there is nothing to allow", err=True)
        return
    show(lines)
    allow([line for line in lines if not settings.are_allowed([line])])
    click.echo("allowed, as long as these lines stay as they are", err=True)


def _environment() -> dict[str, tuple[str, str]]:
    """Return keys that variables of the environment set, with the variable and its value."""
    known = {"inventory": "LAUNCHER_INVENTORY", "hosts": "LAUNCHER_HOSTS"}
    known["framework"] = "LAUNCHER_FRAMEWORK"
    return {key: (name, os.environ[name]) for key, name in known.items() if os.environ.get(name)}


def _project(files: Sequence[SettingsFile]) -> str | None:
    found = (str(Path(file.path).absolute()) for file in files if file.whose == settings.PROJECT)
    return next(found, None)
