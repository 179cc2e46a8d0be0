"""Frames in which the hosts of a run, and the ``ssh`` of a run, exchange commands and their streams.

A frame is a letter, the length of its data in four bytes, and the data. One command is

``j`` {"host", "command"}   ── first, once, from the side that wants the command to run
``i`` bytes                 ── its standard input; empty at the end of input
``s`` {"signal": n}         ── a signal for it
``t`` {"taken": n}          ── reply: n bytes of input were taken
``o``, ``e`` bytes          ── reply: its standard output and error
``x`` {"code": n}           ── reply: it exited; or {"trouble": text}: it cannot run
"""

from __future__ import annotations

import struct

from . import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from .messages import Message

ASK, INPUT, SIGNAL, TAKEN, OUTPUT, ERROR, EXIT = b"j", b"i", b"s", b"t", b"o", b"e", b"x"
#: Most bytes of standard input in flight to a command. The reader of frames never waits for a
#: command, so it always notices when the other side is gone.
WINDOW = 1 << 18
#: Largest piece of a stream in one frame; largest frame (a command with its environment).
PIECE, LARGEST = 1 << 16, 4 << 20
HEAD = struct.Struct("!cI")


def frame(kind: bytes, data: bytes | Message = b"") -> bytes:
    """Return one frame; a message is encoded as JSON."""
    if not isinstance(data, bytes):
        data = lean.dumps(data).encode("ascii")
    return HEAD.pack(kind, len(data)) + data


def size_of(head: bytes) -> tuple[bytes, int]:
    """Return ``(kind, length)``. Raises ValueError when this is not the head of a frame."""
    kind, length = HEAD.unpack(head)
    if length > LARGEST or kind not in (ASK, INPUT, SIGNAL, TAKEN, OUTPUT, ERROR, EXIT):
        raise ValueError("not a frame: %r" % (head,))
    return kind, length


async def read(reader: asyncio.StreamReader) -> tuple[bytes | None, bytes]:
    """Return the next frame of a stream; ``(None, b"")`` when it is closed, broken or not framed."""
    try:
        kind, length = size_of(await reader.readexactly(HEAD.size))
        return kind, await reader.readexactly(length)
    except (EOFError, OSError, ValueError):
        return None, b""


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Return the JSON object of the next frame, or None."""
    kind, data = await read(reader)
    try:
        message = lean.loads(data.decode("utf-8")) if kind == ASK else None
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
