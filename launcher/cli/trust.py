"""Asks before this machine starts processes by a record that only hosts hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..spec.errors import InputError

if TYPE_CHECKING:
    from ..api.handles import AsyncRunHandle

FLAG = "--trust-record"
#: Characters of a command that are shown.
LONGEST = 300

option = click.option(
    FLAG,
    is_flag=True,
    help="Start processes, and send secrets, as the hosts of a run of another machine say.",
)


def agreed(run: AsyncRunHandle, what: str) -> bool:
    """Show what a run of another machine would do where its record is in doubt, and ask.

    Raises InputError where nobody sits at a terminal.
    """
    doubts = run.doubts
    if not doubts:
        return True
    if not sys.stdin.isatty():
        raise InputError(
            f"{run.name} was started elsewhere, and {what} by its record is in doubt: "
            + "; ".join(doubts),
            f"{FLAG} does it all the same; launcher logs, pull and stop start nothing",
        )
    click.secho("note: ", fg="yellow", err=True, nl=False)
    click.echo(f"{run.name} was started elsewhere; its record comes from its hosts", err=True)
    for line in (*run.commands, *doubts):
        shown = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
        click.echo("  " + shown.replace("\n", "\n    "), err=True)
    return click.confirm(f"Trust it for {what}?", default=False, err=True)
