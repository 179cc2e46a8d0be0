"""What to type to continue what Ctrl-C has interrupted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


class Again:
    """The command line, with the full name of its run in the place of ``word`` once that is known."""

    def __init__(self, word: str = "") -> None:
        self.word = self.name = word

    def __str__(self) -> str:
        words = sys.argv[1:]
        if self.name != self.word and self.word in words:
            words[words.index(self.word)] = self.name
        return shlex.join(["launcher", *words])


@contextmanager
def continued(what: str, again: Again) -> Iterator[None]:
    """At Ctrl-C say how to continue; ``what`` does, as "the next pull"."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            click.echo(err=True)  # behind ^C
        click.echo(f"interrupted; {what} continues here: {again}", err=True)
        raise click.Abort from None
