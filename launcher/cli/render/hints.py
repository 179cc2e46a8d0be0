"""Wrap hints to the width of the terminal, after a label."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import click


def labelled(label: str, text: str, width: int) -> list[str]:
    """Return a text in as many lines as it needs, the first after a label."""
    import textwrap  # for the first hint, not for every command

    room = max(20, width - len(label))
    first, *rest = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [click.style(label, fg="cyan") + first, *(" " * len(label) + line for line in rest)]


def below_error(hint: str, indent: int = 0) -> str:
    """Return the hint of an error, for a block with this indent.

    Without a terminal it stays on one line, which programs can search.
    """
    if not sys.stderr.isatty():
        return click.style("  hint: ", fg="cyan") + hint
    return "\n".join(labelled("  hint: ", hint, terminal_width() - indent))


def output_width() -> int | None:
    """Return the columns of the terminal that shows what a command prints; None without one."""
    return _columns(sys.stdout) if sys.stdout.isatty() else None


def terminal_width() -> int:
    """Return the columns of the terminal on stderr; 100 without one."""
    return _columns(sys.stderr)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 100
    except (OSError, ValueError):
        return 100
