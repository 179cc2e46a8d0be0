"""Hints as a person reads them: behind a label, in lines as wide as the terminal, cut between words."""

from __future__ import annotations

import os
import sys

import click


def labelled(label: str, text: str, width: int) -> list[str]:
    """A text in as many lines as it needs, the first behind a label."""
    import textwrap  # by the first hint, not by every command

    room = max(20, width - len(label))
    first, *rest = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [click.style(label, fg="cyan") + first, *(" " * len(label) + line for line in rest)]


def below_error(hint: str, indent: int = 0) -> str:
    """The hint of an error, for a place that is indented so far. Not wrapped without a terminal: what
    reads it then searches it."""
    if not sys.stderr.isatty():
        return click.style("  hint: ", fg="cyan") + hint
    return "\n".join(labelled("  hint: ", hint, terminal_width() - indent))


def terminal_width() -> int:
    """Columns of the terminal that launcher's own words go to; 100 without one."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 100
