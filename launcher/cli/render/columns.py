"""How wide lines may be: as a terminal; without one they stay whole, for who searches them."""

from __future__ import annotations

import os
import sys
from typing import TextIO

#: Columns without a terminal: sentences stay whole, and a line of a log that never ends does not.
WHOLE = 1000


def width_of(stream: TextIO) -> int:
    """Return the columns of the terminal that shows a stream; WHOLE where none does."""
    return _columns(stream) if stream.isatty() else WHOLE


def output_width() -> int | None:
    """Return the columns of the terminal that shows what a command prints; None without one."""
    return _columns(sys.stdout) if sys.stdout.isatty() else None


def terminal_width() -> int:
    """Return the columns of the terminal on stderr; 100 without one, for what is drawn."""
    return _columns(sys.stderr)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 100
    except (OSError, ValueError):
        return 100
