"""Pictures that change, on a screen of our own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from .terminal import control


def can_draw() -> bool:
    """Return whether there is a terminal to draw on."""
    streams = (sys.stdout, sys.stderr)
    return all(one.isatty() for one in streams) and os.environ.get("TERM") != "dumb"


def size() -> os.terminal_size:
    """Return the size of the screen as it is now: an exported COLUMNS is that of another moment."""
    try:
        found = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return shutil.get_terminal_size()
    return found if found.columns and found.lines else shutil.get_terminal_size()


@contextmanager
def screen() -> Iterator[None]:
    """Draw on a screen of our own, without wrapping lines; what was on the terminal is there again
    afterwards."""
    control("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J")
    try:
        yield
    finally:
        control("\x1b[?7h\x1b[?25h\x1b[?1049l")
        sys.stderr.flush()


def draw(lines: Iterable[str]) -> None:
    """Draw lines over the picture before."""
    control("\x1b[H")
    for line in lines:
        control("\x1b[K")  # not behind it: the cursor stays on the last column of a full line
        click.echo(line, err=True, nl=False)
        control("\r\n")
    control("\x1b[J")
    sys.stderr.flush()
