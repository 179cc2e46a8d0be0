"""The RUN arguments of commands that take several: names, patterns and filters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..api.client import Client, Summary, is_pattern
from ..api.jobs import seconds
from ..spec.errors import InputError
from . import completion
from .render.tables import counted
from .run_argument import inventory_option

if TYPE_CHECKING:
    from .options import F

#: Runs that a question names.
NAMED = 8


def several_runs(command: F) -> F:
    """Add RUNs to a command, as ``words``, and filters of them."""
    argument = click.argument("words", metavar="[RUN]...", nargs=-1, shell_complete=completion.runs)
    older = click.option(
        "--older", metavar="T", help="Only runs started more than T ago: 12h, 30d."
    )
    tags = click.option(
        "--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag."
    )
    yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    return argument(inventory_option(older(tags(yes(command)))))


def chosen(
    words: tuple[str, ...],
    older: str | None,
    failed: bool = False,
    tags: tuple[str, ...] = (),
) -> tuple[list[Summary], bool]:
    """Return the runs that a command is called for, and whether they were chosen by a pattern or a
    filter, so that a person should see which they are. Raises InputError."""
    if not (words or older or failed or tags):
        raise InputError("no run is named", "launcher ls shows all runs; 'sweep-*' names several")
    try:
        age = None if older is None else seconds(older)
    except ValueError as error:
        raise InputError(f"--older: {error}") from None
    many = bool(older or failed or tags) or any(map(is_pattern, words))
    return Client().select(words, failed=failed, older=age, tags=tags), many


def agreed(question: str, runs: list[Summary], yes: bool) -> bool:
    """Return whether the user wants something done to several runs."""
    if yes:
        return True
    names = ", ".join(run.run for run in runs[:NAMED])
    more = f" and {len(runs) - NAMED} more" if runs[NAMED:] else ""
    click.echo(f"{counted(len(runs), 'run')}: {names}{more}", err=True)
    if sys.stdin.isatty():
        return click.confirm(question, err=True)
    click.echo("nothing was done: without a terminal, -y agrees", err=True)
    return False
