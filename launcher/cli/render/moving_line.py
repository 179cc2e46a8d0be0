"""The one line at the end of the screen that is drawn again and again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..terminal import control
from .columns import terminal_width

_CLEAR = "\r\x1b[2K"
#: The line that is up, and whether a question stands in its place.
_shown: MovingLine | None = None
_asks = False


@contextmanager
def question() -> Iterator[None]:
    """Keep the end of the screen free of lines while the user answers a question there."""
    global _asks
    if _shown:
        _shown.clear()
    _asks = True
    try:
        yield
    finally:
        _asks = False


class MovingLine:
    """What takes its time now, below everything else. Whoever prints anything clears it first."""

    def __init__(self) -> None:
        #: Whether a line can move: on a terminal, unless it is a dumb one.
        self.moves = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def draw(self, text: str, dim: bool = False) -> None:
        """Show this text in the place of the one before, as much as fits in a line."""
        global _shown
        if _asks:
            return
        width = max(20, terminal_width() - 1)
        control(_CLEAR)  # not through click, which takes it for colour and strips it
        click.echo(click.style(text[:width], dim=dim), nl=False, err=True)
        _shown = self

    def clear(self) -> None:
        """Take the line away."""
        global _shown
        if _shown is self:
            control(_CLEAR)
            sys.stderr.flush()
            _shown = None
