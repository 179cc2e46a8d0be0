"""Run steps concurrently, and leave no task behind when one fails or is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from ..transport.rates import limited as limited

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


async def together(steps: Iterable[Coroutine[Any, Any, T]], limit: int = 64) -> list[T]:
    """Return all results in order, running at most ``limit`` steps at once.

    Raises the first error, once all others are cancelled and finished.
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


async def both(first: Coroutine[Any, Any, S], second: Coroutine[Any, Any, T]) -> tuple[S, T]:
    """Return the results of two steps that run at once.

    Raises the first error, once the other one is cancelled and finished.
    """
    one, other = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        await asyncio.gather(one, other)
        return one.result(), other.result()
    finally:
        await cancel(one, other)


async def race(*steps: Coroutine[Any, Any, T]) -> T:
    """Return the result of the first step to finish, once all others are cancelled and finished.

    Of two that finish at once, the one that was named first wins.
    """
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        await cancel(*tasks)


@asynccontextmanager
async def beside(step: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a step in the background of a block, and cancel it at the end of the block."""
    task = asyncio.ensure_future(step)
    try:
        yield
    finally:
        await cancel(task)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks, and wait until they are finished. None stands for no task."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run slow work in a thread, while the event loop serves the hosts.

    A thread cannot be cancelled: a cancelled caller waits for its end, so that the same work is never
    started twice at once.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


class Interrupted(Exception):
    """Work in a thread is no longer wanted."""


async def in_own_thread(work: Callable[[Callable[[], None]], T]) -> T:
    """Run slow work that can be given up. It gets a function to call again and again,
    which raises Interrupted once nobody waits for it any more.

    A cancelled caller gives it two seconds to end; a thread that then still waits for a network is left,
    and keeps no program from ending.
    """
    loop, is_over = asyncio.get_running_loop(), threading.Event()
    done: asyncio.Future[T] = loop.create_future()

    def going_on() -> None:
        if is_over.is_set():
            raise Interrupted

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work(going_on)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        is_over.set()
        await asyncio.wait({done}, timeout=2.0)
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody asks
        raise


def in_threads(
    work: Callable[[S], T], items: Sequence[S], at_once: int, grace: float | None = None
) -> list[T]:
    """Return the results of slow work in their order, several items at once. Blocks.

    Raises the first error, once no item is at work any more, or ``grace`` seconds later. Threads that
    wait for a network keep no program from ending.
    """
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    left, lock = iter(range(len(items))), threading.Lock()
    over: SimpleQueue[None] = SimpleQueue()  # with an entry for each thread that is

    def do() -> None:
        try:
            do_all()
        finally:
            over.put(None)

    def do_all() -> None:
        while not errors:
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=do, daemon=True) for _ in range(min(at_once, len(items)))]
    for thread in threads:
        thread.start()
    for _ in threads:
        over.get()
        if errors:
            break
    _join(threads, grace)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


def _join(threads: Sequence[threading.Thread], grace: float | None) -> None:
    """Wait until threads have ended; with ``grace``, for so many seconds at most."""
    deadline = time.monotonic() + (grace or 0.0)
    for thread in threads:
        thread.join(None if grace is None else max(0.0, deadline - time.monotonic()))
