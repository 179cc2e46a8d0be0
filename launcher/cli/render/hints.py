"""Wrap hints to the width of the terminal, after a label."""

from __future__ import annotations

import sys

import click

from .columns import terminal_width


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
