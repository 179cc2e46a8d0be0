"""One stream of events for a page: that runs changed, that the shown run changed, new bytes of a log."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator

from . import confined
from .answers import Runs, Stamp

#: Most bytes of a log in one event.
PIECE = 1 << 16
#: Seconds between looks at the log, and how many of them go by between looks at all runs.
EVERY, LOOKS = 0.5, 4


def log_bytes(runs: Runs, run: str, log: str, offset: int, most: int) -> tuple[int, bytes, int]:
    """Return an offset, the bytes of a log from there on, and its size. Raises OSError.

    A negative offset counts from the end.
    """
    with confined.opened(runs.root, (run, "logs", *log.split("/"))) as file:
        size = os.fstat(file).st_size
        start = min(size, offset if offset >= 0 else max(0, size + offset))
        return start, os.pread(file, min(most, size - start), start), size


async def events(runs: Runs, run: str, log: str, offset: int) -> AsyncIterator[bytes]:
    """Yield events until the page is gone. The id of an event is the log's next offset."""
    yield b"retry: 1000\n\n"
    before, look = await asyncio.to_thread(runs.stamps), 0
    while True:
        more = True
        while log and more:
            try:
                start, data, size = await asyncio.to_thread(
                    log_bytes, runs, run, log, offset, PIECE
                )
            except OSError:  # the process has not printed yet, or the run was deleted
                break
            more = start + len(data) < size
            if data:
                offset = start + len(data)
                value = {"offset": start, "data": base64.b64encode(data).decode()}
                yield f"id: {offset}\nevent: log\ndata: {json.dumps(value)}\n\n".encode()
        if look % LOOKS == 0:
            now = await asyncio.to_thread(runs.stamps)
            # The comment finds out whether anybody still listens.
            yield await asyncio.to_thread(_changes, runs, before, now) or b":\n\n"
            before = now
        look += 1
        await asyncio.sleep(EVERY)


def _changes(runs: Runs, before: dict[str, Stamp], now: dict[str, Stamp]) -> bytes:
    """Return the event with the runs that differ; nothing if none does."""
    changed = [runs.line(name) for name, stamp in now.items() if before.get(name) != stamp]
    gone = [name for name in before if name not in now]
    if not changed and not gone:
        return b""
    return f"event: runs\ndata: {json.dumps({'runs': changed, 'gone': gone})}\n\n".encode()
