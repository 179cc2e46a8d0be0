"""Does the same on many hosts at once; when it fails on one, the others are not left half-way.

Not responsible for what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(steps: Iterable[Coroutine[Any, Any, T]], limit: int = 64) -> list[T]:
    """All results in order, with at most ``limit`` under way.

    Raises the first error, after all others were cancelled and have come to rest.
    """
    gate = asyncio.Semaphore(limit)

    async def one(step: Coroutine[Any, Any, T]) -> T:
        try:
            await gate.acquire()
        except BaseException:
            step.close()
            raise
        try:
            return await step
        finally:
            gate.release()

    tasks = [asyncio.ensure_future(one(step)) for step in steps]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
