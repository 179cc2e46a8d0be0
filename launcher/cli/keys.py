"""Single keys at the terminal, without Enter, while the event loop runs."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def can_ask() -> bool:
    """Return whether somebody at a terminal can see a question and answer it now."""
    try:
        return (
            sys.stdin.isatty()
            and sys.stderr.isatty()
            and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()  # not in the background
        )
    except (OSError, ValueError, AttributeError):  # a stream is closed or missing
        return False


@contextmanager
def pressed(on_key: Callable[[str], None]) -> Iterator[None]:
    """Call ``on_key`` with each key. Ctrl-C stays a signal, and the terminal is as before afterwards."""
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        try:
            keys = os.read(terminal, 64)
        except OSError:  # the terminal is gone
            keys = b""
        if not keys:
            loop.remove_reader(terminal)
        for key in keys.decode("ascii", "replace"):
            on_key(key)

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)
    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSANOW, before)
