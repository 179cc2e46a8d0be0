"""Print errors: what happened where, then what to do."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ...spec.errors import HostError, LauncherError
from .hints import below_error


def complain(error: LauncherError) -> None:
    """Print an error and its hint on stderr."""
    say_error(str(error), error.hint)


def complain_of_hosts(errors: Iterable[HostError]) -> None:
    """Print errors of hosts; those that are alike are one."""
    from .folding import fold_errors  # few commands fail

    for said in fold_errors(errors):
        say_error(said.text, said.hint)


def say_error(text: str, hint: str) -> None:
    """Print the text of an error, and below it what to do, if anything is known."""
    click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
    if hint:
        click.echo(below_error(hint), err=True)
