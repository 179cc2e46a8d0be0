"""Tells of processes that wrote a traceback and go on, as a rank of MPI that waits for the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..records import events as ev
from ..records import postmortem
from .event_log import EventLog

#: Seconds between two looks. A traceback counts when nothing came after it for as long.
PAUSE = 15.0


async def watch(event_log: EventLog, add: Callable[[ev.Event], None]) -> None:
    """Look again and again, and add an event once for each process."""
    before: dict[tuple[str, str], str] = {}
    attempt = event_log.state.attempt
    seen = [event for event in event_log.events if isinstance(event, ev.TracebackSeen)]
    told = {(event.host, event.key) for event in seen if event.attempt == attempt}
    while True:
        await asyncio.sleep(PAUSE)
        try:
            found = postmortem.unended(event_log.last_words_of_all())
        except OSError:  # a disk that cannot be read here ends no run
            continue
        for process, line in found.items():
            place = (process.host, process.key)
            if place not in told and before.get(place) == line:
                told.add(place)
                add(ev.TracebackSeen(time.time(), *place, process.rank, line, attempt))
        before = {(process.host, process.key): line for process, line in found.items()}
