"""The one line at the end of the screen that is drawn again and again."""

from __future__ import annotations

import os
import sys

import click

from ..terminal import control
from .columns import terminal_width

_CLEAR = "\r\x1b[2K"


class MovingLine:
    """What takes its time now, below everything else. Whoever prints anything clears it first."""

    def __init__(self) -> None:
        #: Whether a line can move: on a terminal, unless it is a dumb one.
        self.moves = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_up = False

    def draw(self, text: str, dim: bool = False) -> None:
        """Show this text in the place of the one before, as much as fits in a line."""
        width = max(20, terminal_width() - 1)
        control(_CLEAR)  # not through click, which takes it for colour and strips it
        click.echo(click.style(text[:width], dim=dim), nl=False, err=True)
        self._is_up = True

    def clear(self) -> None:
        """Take the line away."""
        if self._is_up:
            control(_CLEAR)
            sys.stderr.flush()
            self._is_up = False
