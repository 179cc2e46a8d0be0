"""Wait for the answers of hosts, and say so at a terminal where that takes long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from .render.moving_line import MovingLine
from .render.tables import counted, duration

T = TypeVar("T")
#: Seconds after which a user wonders: a host that is off takes four times as long.
PATIENCE = 2.0


def answers_of(count: int, asking: Coroutine[Any, Any, T]) -> T:
    """Run what asks so many hosts to its end, and return what it returns."""
    return asyncio.run(_watched(asking, f"waiting for {counted(count, 'host')} to answer"))


async def _watched(asking: Coroutine[Any, Any, T], doing: str) -> T:
    line, began = MovingLine(), time.monotonic()
    task = asyncio.ensure_future(asking)
    try:
        pause = PATIENCE if line.moves else None
        while not (await asyncio.wait({task}, timeout=pause))[0]:
            pause = 1.0
            line.draw(f"{doing} {duration(time.monotonic() - began)}", dim=True)
        return task.result()
    finally:
        line.clear()
