"""What hosts of a run say to each other, and the ``ssh`` of a run to its host: small framed pieces.

A frame is a letter, the length of its data in four bytes, and the data. A command goes

``j`` {"host", "command"}   ── once, first, by the one that wants it to run
``i`` bytes                 ── its standard input; empty at the end of it
``t`` {"taken": n}          ── back: so many bytes of input were taken
``o``, ``e`` bytes          ── back: its standard output and error
``x`` {"code": n}           ── back: it has ended; or {"trouble": text}: it cannot run
"""

from __future__ import annotations

import struct

from . import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from .messages import Message

ASK, INPUT, TAKEN, OUTPUT, ERROR, EXIT = b"j", b"i", b"t", b"o", b"e", b"x"
#: Bytes of standard input on their way to a command that have not been taken. The reader of frames
#: never waits for a command, so it always sees when the other side is gone.
WINDOW = 1 << 18
#: Largest piece of a stream in one frame, and largest frame: a command with its environment.
PIECE, LARGEST = 1 << 16, 4 << 20
HEAD = struct.Struct("!cI")


def frame(kind: bytes, data: bytes | Message = b"") -> bytes:
    """One frame; what is not bytes goes as JSON."""
    if not isinstance(data, bytes):
        data = lean.dumps(data).encode("ascii")
    return HEAD.pack(kind, len(data)) + data


def size_of(head: bytes) -> tuple[bytes, int]:
    """``(kind, length)``. Raises ValueError on what is not the beginning of a frame."""
    kind, length = HEAD.unpack(head)
    if length > LARGEST or kind not in (ASK, INPUT, TAKEN, OUTPUT, ERROR, EXIT):
        raise ValueError("not a frame: %r" % (head,))
    return kind, length


async def read(reader: asyncio.StreamReader) -> tuple[bytes | None, bytes]:
    """The next frame of an asyncio stream; ``(None, b"")`` when it has ended, however that was."""
    try:
        kind, length = size_of(await reader.readexactly(HEAD.size))
        return kind, await reader.readexactly(length)
    except (EOFError, OSError, ValueError):
        return None, b""


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next frame's JSON object, or None."""
    kind, data = await read(reader)
    try:
        message = lean.loads(data.decode("utf-8")) if kind == ASK else None
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
