"""What a person is asked and told before the code is copied: its size, and arguments that stay here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..api import jobs
from .render.event_lines import large_code

if TYPE_CHECKING:
    from ..spec.model import Job


def ask_about_size(job: Job, yes: bool) -> None:
    """Ask whether to copy much code, and leave out what the user wants to stay here.

    Without a terminal nobody is asked; the run says how much it copies. Raises InputError, Abort.
    """
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    code = jobs.large_code(job) if asks or yes else None
    if code is None:
        return
    if not yes:
        click.echo(large_code(code.bytes, code.files, code.largest), err=True)
        names = ", ".join(code.proposed)
        if code.proposed and click.confirm(
            f"Leave out {names} (written to .launcherignore)?", default=True, err=True
        ):
            jobs.leave_out(code)
            return
        if not code.proposed:
            click.confirm("Copy all of it to every host?", default=True, abort=True, err=True)
    jobs.agree_to_copy(code)


def tell_local_paths(job: Job) -> None:
    """Name the arguments that are paths of this machine."""
    for found in jobs.local_paths_of(job):
        if found.inside is not None:
            text = f"{found.argument} is a path of this machine; on the hosts it is {found.inside}"
        else:
            text = (
                f"{found.argument} is a path of this machine and not copied: --data NAME=FOLDER brings "
                "a folder to every host (in quotes, '~/...' is the home there)"
            )
        click.secho(f"note: {text}", fg="yellow", err=True)
