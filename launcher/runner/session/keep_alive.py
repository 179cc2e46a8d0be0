"""Contacts one host regularly, so that its supervisor knows that a launcher is attached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from ...spec.errors import HostError
from ...transport.answers.reading import read
from ...transport.answers.runs import Contacted
from ..concurrency import cancel
from .connection import HostConnection

#: At most so many seconds between two contacts, and at least so many contacts within the time after
#: which a supervisor without contact stops the run.
PAUSE, CONTACTS = 5.0, 4


class KeepAlive:
    """Contacts the host again and again. An agent that does not answer is closed by that;
    ``on_silence`` gets for how many seconds the supervisor there has not answered its agent."""

    def __init__(self, line: HostConnection, on_silence: Callable[[float], None]) -> None:
        self._line, self._on_silence = line, on_silence
        self._task: asyncio.Task[None] | None = None

    def start(self, orphan_timeout: float | None) -> None:
        """Start once. A supervisor waits for ``orphan_timeout`` seconds without contact."""
        if self._task is None:
            pause = PAUSE if orphan_timeout is None else min(PAUSE, orphan_timeout / CONTACTS)
            self._task = asyncio.ensure_future(self._call(pause))

    def stop(self) -> None:
        """Stop contacting the host."""
        if self._task:
            self._task.cancel()

    async def close(self) -> None:
        """Stop, and wait until the last contact is finished."""
        await cancel(self._task)

    async def _call(self, pause: float) -> None:
        while True:
            with suppress(HostError):
                answer = await self._line.agent.ask("contact")
                contacted = read(Contacted, self._line.host.name, "contact", answer)
                self._on_silence(contacted.silent)
            await asyncio.sleep(pause)
