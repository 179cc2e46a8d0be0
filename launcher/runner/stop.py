"""The user's request to stop a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from ..records.reasons import StopReason
from .concurrency import race

T = TypeVar("T")


class Stopped(Exception):
    """The user asked to stop the run, and the current step was cancelled."""


class StopSwitch:
    """Pressed once, it stops a run gracefully; pressed twice, without grace."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.reason: StopReason | None = None
        self.asked = asyncio.Event()
        self.kill = asyncio.Event()
        self._wake = wake

    def press(self, reason: StopReason = StopReason.BY_USER) -> None:
        """Ask to stop; asked again, without grace."""
        if self.reason is None:
            self.reason = reason
            self.asked.set()
        else:
            self.kill.set()
        self._wake()

    async def unless_asked(self, step: Coroutine[Any, Any, T]) -> T:
        """Return the result of a step. Raises Stopped when the user asks to stop before it is done."""
        return await race(step, self._raise_when_asked())

    async def _raise_when_asked(self) -> NoReturn:
        await self.asked.wait()
        raise Stopped
