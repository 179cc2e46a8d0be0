"""The one gate to the terminal: no text of a host can do more there than be read.

Whatever is printed as text passes here where it goes to a terminal. Files and pipes get every byte.
Log lines are bytes, which :mod:`launcher.cli.render.log_lines` has made harmless before.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO

#: Colours, bold and dim text (ECMA-48, SGR), which may pass: nothing that hides text. Else one control
#: character: C0 but tab and newline, DEL, C1, and what changes the direction of text.
_SPECIAL = re.compile(
    "(\x1b\\[(?:[0-2]|22|3[1-7]|39|9[1-7])?m)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def harmless(text: str) -> str:
    """Return a text with colours, whose control characters are visible and do nothing."""
    return _SPECIAL.sub(_picture, text)


def _picture(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "␛" if code < 0xA0 else f"<U+{code:04X}>"


class Gate(io.TextIOWrapper):
    """A text stream to a terminal, through which only harmless text passes."""

    def write(self, text: str) -> int:
        """Write a text, made harmless."""
        super().write(harmless(text))
        return len(text)

    def control(self, text: str) -> None:
        """Write control sequences of our own: never anything that a host has sent."""
        super().write(text)


def guard() -> None:
    """Put a gate before stdout and stderr, as far as they are terminals."""
    sys.stdout, sys.stderr = _gated(sys.stdout), _gated(sys.stderr)


def _gated(stream: TextIO) -> TextIO:
    if isinstance(stream, Gate) or not isinstance(stream, io.TextIOWrapper) or not stream.isatty():
        return stream
    stream.flush()
    ours = stream is not sys.__stdout__ and stream is not sys.__stderr__
    encoding = (
        "utf-8" if stream.encoding.lower() in ("ascii", "ansi_x3.4-1968") else stream.encoding
    )
    return Gate(
        stream.detach() if ours else stream.buffer,
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def control(text: str) -> None:
    """Move the cursor or clear a line on stderr, by a sequence of our own."""
    if isinstance(sys.stderr, Gate):
        sys.stderr.control(text)
    else:
        sys.stderr.write(text)
