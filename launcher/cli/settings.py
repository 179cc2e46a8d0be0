"""Settings of the user and of the project, and the question before somebody else's take effect."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from ..api import settings
from ..api.settings import Line, SettingsFile
from ..spec.errors import InputError


def found_settings() -> tuple[SettingsFile, ...]:
    """Return the settings that hold in this folder, the weaker first; name a file that is not read."""
    found = settings.found()
    for file in found:
        if file.others:
            click.secho("note: ", fg="yellow", err=True, nl=False)
            click.echo(f"{file.path} is another user's: it is not read", err=True)
    return found


def job_layers(files: Sequence[SettingsFile]) -> dict[str, dict[str, Any]]:
    """Return what settings say of a job, by whose they are, the weaker first."""
    return {
        file.whose: {name: v for name, v in file.values().items() if name not in settings.OPTIONS}
        for file in files
    }


def agree(files: Sequence[SettingsFile]) -> None:
    """Ask once, at a terminal, before delicate settings of a project or a job take effect.

    Raises InputError where they are not allowed.
    """
    lines = settings.delicate_lines(files)
    if settings.are_allowed(lines):
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        show(lines)
        if click.confirm("Let them take effect?", err=True):
            allow(lines)
    settings.require_allowed(lines)


def allow(lines: Sequence[Line]) -> None:
    """Note that these lines may take effect. Raises InputError."""
    try:
        settings.allow(lines)
    except OSError as error:
        raise InputError(f"cannot note that: {error}") from None


def show(lines: Sequence[Line]) -> None:
    """Print on stderr what settings would do."""
    click.echo(
        "These lines decide what runs, send secrets, or let hosts control the terminal:", err=True
    )
    for line in lines:
        first, *rest = line.text.splitlines()
        head = f"  {line.file}:{line.number}  "
        click.echo("\n".join([head + first, *(" " * len(head) + one for one in rest)]), err=True)
