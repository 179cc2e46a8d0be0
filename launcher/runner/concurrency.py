"""Does things beside each other, and leaves none of them half-way when one fails or is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
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


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work that takes long here: meanwhile hosts are heard. A thread cannot be broken off, so whoever
    is cancelled waits for its end: nobody else begins the same before."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
