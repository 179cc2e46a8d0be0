"""Does things beside each other, and leaves none of them half-way when one fails or is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def together(steps: Iterable[Coroutine[Any, Any, T]], limit: int = 64) -> list[T]:
    """Return all results in order, with at most ``limit`` steps under way.

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
        await cancel(*tasks)


async def race(*steps: Coroutine[Any, Any, T]) -> T:
    """Return the result of the step that is done first, after all others were cancelled and have
    come to rest. Of two that are done at once, the one that was named first wins."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        await cancel(*tasks)


@asynccontextmanager
async def beside(step: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do a step in the background of a block, and cancel it at the end of the block."""
    task = asyncio.ensure_future(step)
    try:
        yield
    finally:
        await cancel(task)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks, and wait until they have come to rest."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work that takes long, while hosts are heard. A thread cannot be broken off: a caller that is
    cancelled waits for its end, so that nobody begins the same work before."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
