"""Turn bytes of many processes into readable lines. Pure.

Bytes are cut into whole lines, ``\\r`` leaves what a terminal would show, control characters are made
harmless, and equal lines of several ranks are folded into one. A large piece without control
characters passes in one go, at the speed of ``bytes.replace``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from ...spec.frozen import frozen
from . import bars

#: An endless line is shown in pieces of this many bytes.
LONGEST = 1 << 16
#: At most this many lines wait for equal lines of other ranks; more are shown as they come.
FOLDED = 400

# Control characters of C0 (but tab and newline), DEL, and as UTF-8: C1, and what changes the direction
# of text.
_CONTROL = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2(?:\x80[\xaa-\xae]|\x81[\xa6-\xa9])"
)
_C0 = bytes(code for code in [*range(32), 127] if code not in b"\t\n")
# Colours and other text attributes: ECMA-48, SGR.
_COLOUR = re.compile(rb"\x1b\[([0-9;:]*)m")
# What is shown in place of a control character; the 7-bit form of C1 is ESC and a letter.
_PICTURES: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(32) if code not in b"\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), "␛"),
    **{code: f"<U+{code:04X}>" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
# Those that hide no text: bold, dim, italic, underlined and the eight colours but black, and their ends.
_SEEN = frozenset(map(str, [*range(5), *range(22, 25), *range(31, 38), 39, *range(91, 98)]))
#: What colours by number begin with: text, background, underline.
_BY_NUMBER = {"38", "48", "58"}
_RESET = b"\x1b[0m"

#: Begins a line that its process wrote over, in a queue: a progress bar that is complete.
BAR = b"\r"

#: torch prints this for every connection on hosts without reverse DNS; it means nothing.
_NOISE = re.compile(
    rb"^(?:\[rank\d+\]:)?\[W.*\[c10d\] The hostname of the client socket cannot be retrieved.*\n",
    re.MULTILINE,
)


class Splitter:
    """Cuts a stream into whole lines. Holds at most about ``LONGEST`` bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the whole lines that ``data`` completes, each with its newline, as one piece."""
        end = data.rfind(b"\n") + 1
        if end:
            lines, self._rest = self._rest + data[:end], data[end:]
        else:
            lines, self._rest = b"", self._rest + data
        if len(self._rest) > LONGEST:
            lines += self._cut()
        return lines

    def _cut(self) -> bytes:
        """Return pieces of an endless line, cut after its last \\r or between characters."""
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
        """Return the unfinished line as it stands: a progress bar, a prompt."""
        return returned(self._rest)

    def bar(self) -> bytes:
        """Return the unfinished line if its process writes over it, as progress bars do."""
        return self.current() if b"\r" in self._rest else b""

    def finish(self) -> bytes:
        """Return the rest of an ended stream, as a line."""
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""


def returned(line: bytes) -> bytes:
    """Return what a terminal shows of a line: the text after its last carriage return."""
    line = line.rstrip(b"\r")
    return line[line.rfind(b"\r") + 1 :]


def is_plain(lines: bytes) -> bool:
    """Return whether a piece can go to a terminal as it is."""
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


def uncoloured(line: bytes) -> bytes:
    """Return a line without colours."""
    return _COLOUR.sub(b"", line)


def harmless(line: bytes, colours: bool = False) -> bytes:
    """Return a line with all control characters made visible; of colours, with ``colours`` those that
    hide no text are kept, to the end of the line, and else none."""
    if not colours:
        return _visible(uncoloured(line))
    pieces = _COLOUR.split(line)  # every second one is a colour
    pieces[::2] = map(_visible, pieces[::2])
    pieces[1::2] = map(_seen, pieces[1::2])
    shown = b"".join(pieces)
    return shown + _RESET if b"\x1b" in shown and not shown.endswith(_RESET) else shown


def _visible(text: bytes) -> bytes:
    """Replace control characters; by a table, as a process may print a binary file."""
    return text.decode("utf-8", "replace").translate(_PICTURES).encode()


def _seen(colour: bytes) -> bytes:
    """Return what is kept of a colour."""
    words = colour.decode().split(";")
    kept, skip = [], 0
    for index, word in enumerate(words):
        if skip:
            skip -= 1
        elif word in _BY_NUMBER:  # 38;5;N or 38;2;R;G;B: it may be that of the background
            skip = {"5": 2, "2": 4}.get("".join(words[index + 1 : index + 2]), 0)
        elif not word or word in _SEEN:
            kept.append(word or "0")
    return b"\x1b[" + ";".join(kept).encode() + b"m" if kept else b""


def readable(
    lines: bytes, raw: bool = False, colours: bool = False, mark_bars: bool = False
) -> bytes:
    """Return whole lines ready to show; control characters are harmless unless ``raw``, and colours
    are kept for a terminal that wants ``colours``.

    With ``mark_bars``, lines that were written over begin with :data:`BAR`.
    """
    if raw:
        if b"\r" not in lines:
            return lines
        return b"".join(returned(line) + b"\n" for line in lines[:-1].split(b"\n"))
    if b"hostname of the client socket cannot" in lines:
        lines = _NOISE.sub(b"", lines)
    if is_plain(lines):
        return lines
    return b"".join(
        (line if is_plain(line) else _mark(line, mark_bars) + harmless(returned(line), colours))
        + b"\n"
        for line in lines[:-1].split(b"\n")
    )


def _mark(line: bytes, mark_bars: bool) -> bytes:
    return BAR if mark_bars and b"\r" in line.rstrip(b"\r") else b""


@frozen
class Line:
    """A line of one or several ranks, without its newline; ``is_bar`` if it was written over."""

    sources: tuple[int, ...]
    text: bytes
    is_bar: bool = False


def fold(queues: dict[int, deque[bytes]]) -> Iterable[Line]:
    """Empty the queues; yield their lines, equal lines once, each source in its own order.

    A line waits for every source that has it further down in its queue, so lines are also folded
    when ranks printed something different before. Bars of one shape count as equal.
    """
    keys = {source: deque(map(_key, queue)) for source, queue in queues.items()}
    while True:
        heads = [(source, queue[0]) for source, queue in keys.items() if queue]
        if not heads:
            return
        deeper = {
            key
            for queue in keys.values()
            for position, key in enumerate(queue)
            if position and key != queue[0]
        }
        chosen = next((key for _, key in heads if key not in deeper), heads[0][1])
        sources = tuple(source for source, key in heads if key == chosen)
        texts = [queues[source].popleft() for source in sources]
        for source in sources:
            keys[source].popleft()
        is_bar = chosen.startswith(BAR)
        yield Line(sources, _merged(texts) if is_bar else chosen, is_bar)


def _key(text: bytes) -> bytes:
    return BAR + bars.shape(text[1:].decode()).encode() if text.startswith(BAR) else text


def _merged(texts: list[bytes]) -> bytes:
    return bars.merged([text[1:].decode() for text in texts]).encode()
