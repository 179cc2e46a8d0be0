"""Whole lines of logs, made of the pieces in which they come. Pure."""

from __future__ import annotations

import re

from ..spec.frozen import frozen

#: Bytes after which a line that does not end comes in parts.
LONGEST = 1 << 20
_RANK = re.compile(r"rank-(\d+)")


@frozen
class LogLine:
    """One line of a log, without its end: ``text``. ``print(line)`` shows it.

    ``host`` is the host that wrote it, ``name`` the log: ``attempt-0/rank-3.out``. Of a line that was
    written over again and again, as progress bars do, it is the last state. A byte that is no UTF-8 is
    U+FFFD. ``arrived`` is when its end had come here, as that of a ``LogPiece``.
    """

    host: str
    name: str
    text: str
    arrived: float = 0.0

    @property
    def rank(self) -> int | None:
        """The rank that wrote it; None if the log is that of a node or of what runs before the ranks."""
        found = _RANK.match(self.name.rpartition("/")[2])
        return int(found[1]) if found else None

    def __str__(self) -> str:
        return self.text


class LineCutter:
    """Cuts the pieces of many logs into lines, each log on its own."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, str], bytes] = {}

    def feed(self, host: str, name: str, data: bytes, arrived: float = 0.0) -> list[LogLine]:
        """Return the lines that a piece of a log ends."""
        *whole, rest = (self._begun.pop((host, name), b"") + data).split(b"\n")
        if len(rest) > LONGEST:
            rest = rest[rest.rfind(b"\r", 0, -1) + 1 :]  # what was written over is never shown
        while len(rest) > LONGEST:
            whole.append(rest[:LONGEST])
            rest = rest[LONGEST:]
        if rest:
            self._begun[host, name] = rest
        return [LogLine(host, name, _text(line), arrived) for line in whole]

    def end(self) -> list[LogLine]:
        """Return the lines that were begun and not ended, when nothing more comes."""
        begun, self._begun = self._begun, {}
        return [LogLine(host, name, _text(rest)) for (host, name), rest in begun.items()]


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
