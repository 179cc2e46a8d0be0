"""From bytes of many processes to lines that a person can read. Pure.

Bytes are cut into whole lines; ``\\r`` leaves what a terminal would show; escape sequences and other
control characters are made harmless; equal lines of several ranks become one. Large quiet pieces
(no control characters) are passed on in one go, at the speed of ``bytes.replace``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from ...spec.frozen import frozen

#: A line that does not end is shown in pieces of this size.
LONGEST = 1 << 16
#: Lines that wait for equal ones of other ranks; above, they are shown as they come.
FOLDED = 400

# Control characters of C0 (but tab and newline), DEL, and as UTF-8: C1, and what changes the direction
# of text.
_CONTROL = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2(?:\x80[\xaa-\xae]|\x81[\xa6-\xa9])"
)
_C0 = bytes(code for code in [*range(32), 127] if code not in b"\t\n")
# Colours and other text attributes, which simply go: ECMA-48, SGR.
_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")


#: What torch says on every host without reverse DNS, of every connection, and means nothing.
_NOISE = re.compile(
    rb"^(?:\[rank\d+\]:)?\[W.*\[c10d\] The hostname of the client socket cannot be retrieved.*\n",
    re.MULTILINE,
)


class Splitter:
    """Cuts one stream into whole lines. Never holds more than about ``LONGEST`` bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole lines that ``data`` completes, each with its newline, as one piece."""
        end = data.rfind(b"\n") + 1
        if end:
            lines, self._rest = self._rest + data[:end], data[end:]
        else:
            lines, self._rest = b"", self._rest + data
        if len(self._rest) > LONGEST:
            lines += self._cut()
        return lines

    def _cut(self) -> bytes:
        """A piece of an endless line: what stands after the last \\r, or else a whole number of
        characters."""
        rest = self._rest
        shown = rest.rfind(b"\r", 0, len(rest) - 1)
        if shown >= 0:
            self._rest = rest[shown:]
            return b"" if len(self._rest) <= LONGEST else self._cut_after_return()
        pieces = []
        while len(rest) > LONGEST:
            cut = LONGEST
            while cut > LONGEST - 3 and rest[cut] & 0xC0 == 0x80:
                cut -= 1
            pieces.append(rest[:cut] + b"\n")
            rest = rest[cut:]
        self._rest = rest
        return b"".join(pieces)

    def _cut_after_return(self) -> bytes:
        lines, self._rest = self._rest + b"\n", b""
        return lines

    def current(self) -> bytes:
        """The unfinished line as it stands: a progress bar, a prompt."""
        return returned(self._rest)

    def finish(self) -> bytes:
        """What is left when the stream has ended, as a line."""
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""


def returned(line: bytes) -> bytes:
    """What a terminal shows of a line with carriage returns: the text after the last one."""
    line = line.rstrip(b"\r")
    return line[line.rfind(b"\r") + 1 :]


def is_plain(lines: bytes) -> bool:
    """Whether a piece can go to a terminal as it is."""
    if len(lines.translate(None, _C0)) != len(lines):  # 20 times as fast as the expression
        return False
    if lines.isascii():
        return True
    if _CONTROL.search(lines):
        return False
    try:
        lines.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def harmless(line: bytes) -> bytes:
    """A line whose control characters can do nothing: colours go, the rest becomes visible."""
    line = _CONTROL.sub(_picture, _COLOUR.sub(b"", line))
    return line.decode("utf-8", "replace").encode()


def _picture(match: re.Match[bytes]) -> bytes:
    found = match.group()
    if len(found) == 3:
        return f"<U+{ord(found.decode()):04X}>".encode()
    if len(found) == 2:  # C1: its 7-bit form is ESC and a letter
        return "␛".encode()
    code = found[0]
    return chr(0x2421 if code == 0x7F else 0x2400 + code).encode()


def readable(lines: bytes, raw: bool = False) -> bytes:
    """Whole lines as they may be shown: ``\\r`` folded; control characters harmless unless ``raw``."""
    if raw:
        if b"\r" not in lines:
            return lines
        return b"".join(returned(line) + b"\n" for line in lines[:-1].split(b"\n"))
    if b"hostname of the client socket cannot" in lines:
        lines = _NOISE.sub(b"", lines)
    if is_plain(lines):
        return lines
    return b"".join(
        (line if is_plain(line) else harmless(returned(line))) + b"\n"
        for line in lines[:-1].split(b"\n")
    )


@frozen
class Line:
    """A line of one or several ranks, ready to be shown. ``text`` has no newline."""

    sources: tuple[int, ...]
    text: bytes


def fold(queues: dict[int, deque[bytes]]) -> Iterable[Line]:
    """All queued lines of several sources, equal ones as one, each source in its own order.

    A line waits until every source that still has it further down has come to it; so ranks that
    print the same after different beginnings are folded, too. Empties the queues.
    """
    while True:
        heads = [(source, queue[0]) for source, queue in queues.items() if queue]
        if not heads:
            return
        deeper = {
            text
            for queue in queues.values()
            for position, text in enumerate(queue)
            if position and text != queue[0]
        }
        chosen = next((text for _, text in heads if text not in deeper), heads[0][1])
        sources = tuple(source for source, text in heads if text == chosen)
        for source in sources:
            queues[source].popleft()
        yield Line(sources, chosen)
