"""One stream of events for a page: which runs changed, and new bytes of the logs that it shows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from .answers import Runs, Stamp
from .logs import event, log_bytes

#: Most bytes of a log in one event, and logs of a stream.
PIECE, LOGS = 1 << 16, 64
#: Seconds between looks at the logs, and how many of them go by between looks at all runs.
EVERY, LOOKS = 0.5, 4
#: Seconds within which a page may have been told of its runs before its stream looked at them.
LATELY = 10.0
#: Finds out whether anybody still listens. A page takes a stream without it for one that hangs.
BEAT = b"event: beat\ndata: 0\n\n"


async def events(
    runs: Runs,
    run: str,
    logs: Sequence[str],
    offsets: Sequence[int],
    is_ending: Callable[[], bool] = lambda: False,
) -> AsyncIterator[bytes]:
    """Yield events until the page is gone, or the console ends. The id of an event are the next offsets
    of the logs."""
    yield b"retry: 1000\n\n"
    at = list(offsets)
    looking: asyncio.Task[dict[str, Stamp]] | None = None
    before: dict[str, Stamp] | None = None
    look = 0
    try:
        while not is_ending():
            async for piece in _pieces(runs, run, logs, at):
                yield piece
            if look % LOOKS == 0:
                if looking is None:
                    looking = asyncio.create_task(asyncio.to_thread(runs.stamps))
                else:  # thousands of runs take longer than logs
                    yield BEAT
            look += 1
            await asyncio.sleep(EVERY)
            if looking is not None and looking.done():
                now, looking = looking.result(), None
                first = before is None  # the page may have asked for its values just before
                if before is None:
                    before = {name: one for name, one in now.items() if not _is_new(name, one, run)}
                changes = await asyncio.to_thread(_changes, runs, before, now, first)
                yield changes or BEAT
                before = now
    finally:
        if looking is not None:
            looking.cancel()


async def _pieces(runs: Runs, run: str, logs: Sequence[str], at: list[int]) -> AsyncIterator[bytes]:
    """Yield what is new in the logs, a piece of each in turn; ``at`` moves on."""
    more = True
    while more:
        more = False
        for index, log in enumerate(logs):
            try:
                start, data, size = await asyncio.to_thread(
                    log_bytes, runs, run, log, at[index], PIECE
                )
            except OSError:  # the process has not printed yet, or the run was deleted
                continue
            if data:
                at[index] = start + len(data)
                more = more or at[index] < size
                yield event(at, log, start, data)


def resumed(seen: str, offsets: Sequence[int]) -> list[int]:
    """Return where to go on: after the event that a page saw last, or else where it asks to."""
    words = seen.split(",")
    if len(words) == len(offsets) and all(word.isdecimal() and len(word) < 19 for word in words):
        return [int(word) for word in words]
    return list(offsets)


def _is_new(name: str, stamp: Stamp, run: str) -> bool:
    """Return whether the first event tells of a run: of that of the page, and what changed lately."""
    return name == run or max(changed for changed, _ in stamp) / 1e9 > time.time() - LATELY


def _changes(
    runs: Runs, before: dict[str, Stamp], now: dict[str, Stamp], first: bool = False
) -> bytes:
    """Return the event with the runs that differ, those that are gone, and how many there are in all;
    nothing if none differs, unless it is the first."""
    changed = []
    for name in [name for name, stamp in now.items() if before.get(name) != stamp]:
        with suppress(FileNotFoundError):  # deleted since: the next look tells
            changed.append(runs.line(name))
    gone = [name for name in before if name not in now]
    if not changed and not gone and not first:
        return b""
    told = {"runs": changed, "gone": gone, "all": len(now)}
    return f"event: runs\ndata: {json.dumps(told)}\n\n".encode()
