"""A command at a terminal of its own: what it shows, and keys to press.

It knows nothing of launcher.
"""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from pathlib import Path
from typing import Self


class Terminal:
    """A process whose keyboard and screen are ours; a context manager."""

    def __init__(self, argv: list[str], place: Path, env: dict[str, str], columns: int = 0) -> None:
        self.seen = b""
        self._looked_at = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if columns:
                termios.tcsetwinsize(0, (24, columns))
            os.chdir(place)
            os.execve(argv[0], argv, env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def expect(self, text: str, seconds: float = 180) -> None:
        """Wait until it shows a text, after what was expected before."""
        deadline = time.monotonic() + seconds
        while (found := self.seen.find(text.encode(), self._looked_at)) < 0:
            assert time.monotonic() < deadline and self._read(), self.seen.decode()
        self._looked_at = found + len(text.encode())

    def type(self, text: str) -> None:
        self.press(text + "\n")

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 180)[0]:
            return False
        try:
            piece = os.read(self.fd, 1 << 16)
        except OSError:  # Linux: the other end is closed
            return False
        self.seen += piece
        return bool(piece)
