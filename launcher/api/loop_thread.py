"""An event loop in its own thread, so that blocking calls work where a loop already runs."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from ..spec.errors import LauncherError
from ..spec.frozen import looking

T = TypeVar("T")

#: Seconds of one wait: Python notices a signal that comes just before a wait at its end alone.
LOOK = 0.5


#: What the threads are called.
NAME = "launcher"

#: Those that run, for the end of the program.
_alive: set[LoopThread] = set()


def _is_for_the_program(record: logging.LogRecord) -> bool:
    """Return whether a line of asyncssh is one that a program which logs much wants: at INFO there are
    forty for each run. Those of its own connections are, and all if it has set that logger's level."""
    is_ours = record.threadName == NAME and record.levelno < logging.WARNING
    return not is_ours or logging.getLogger("asyncssh").level != logging.NOTSET


def _end_of_program() -> None:
    for one in list(_alive):
        one._leave()


def _leave_to_the_parent() -> None:
    """Serve nobody in a forked process: the threads, and the runs that they follow, are its parent's."""
    for one in _alive:
        one._forked()
    _alive.clear()


@cache
def _ask_for_a_call_at_the_end() -> None:
    """Have threads left while they still work. What atexit calls comes too late: executors, with which
    asyncio does what blocks, take nothing more by then. They end by the same hook, the last one that was
    registered first."""
    import concurrent.futures.thread  # noqa: F401

    with suppress(RuntimeError):  # the program ends already
        getattr(threading, "_register_atexit", atexit.register)(_end_of_program)
    # A child that is forked while a thread looks at a class would wait for that thread for ever.
    os.register_at_fork(
        before=looking.acquire, after_in_parent=looking.release, after_in_child=looking.release
    )
    os.register_at_fork(after_in_child=_leave_to_the_parent)


class LoopThread:
    """Starts its thread with the first call; :meth:`close` ends it. If the program ends before that,
    ``leave`` is called, and nobody else is served any more."""

    def __init__(self, leave: Callable[[], None] | None = None) -> None:
        self._leave_it = leave or self.close
        self._leaving: threading.Thread | None = None
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._closed = False
        self.is_of_parent = False  # whether another process, which forked this one, has the thread

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return its result. Cancel it if the caller is interrupted.

        Raises LauncherError in the loop's own thread and in a forked process, where waiting would never
        end, and after close.
        """
        try:
            loop = self._running()
        except LauncherError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            while not wait([future], LOOK).done:
                pass
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, work: Callable[[], None]) -> None:
        """Run something short in the loop, without waiting; if there is no loop, run it here. Raises
        LauncherError in a forked process."""
        self._require_own()
        if self._loop is None or self._is_here():
            work()
        else:
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Cancel running work, and wait for the thread to end."""
        with self._guard:
            self._closed = True
            _alive.discard(self)
            thread, self._thread = self._thread, None
        if thread and self._loop and self._over:
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join()
            self._loop = None

    def _leave(self) -> None:
        with self._guard:
            self._leaving = threading.current_thread()
        self._leave_it()

    def _is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def _forked(self) -> None:
        self.is_of_parent, self._guard, self._thread = True, threading.Lock(), None

    def _require_own(self) -> None:
        if self.is_of_parent:
            raise LauncherError(
                "this client belongs to the process that forked this one",
                "make another one here: launcher.Client(...).attach(RUN) finds its runs",
            )

    def _running(self) -> asyncio.AbstractEventLoop:
        self._require_own()
        if self._is_here():
            raise LauncherError(
                "a callback of a client cannot wait for that client",
                "request_stop() and request_pull() do not wait",
            )
        with self._guard:
            if self._closed:
                raise LauncherError("this client is closed", "make another one: launcher.Client()")
            if self._leaving not in (None, threading.current_thread()):
                raise LauncherError("this program ends")
            if self._thread is None:
                ready = threading.Event()
                logging.getLogger("asyncssh").addFilter(_is_for_the_program)
                self._thread = threading.Thread(
                    target=lambda: asyncio.run(self._serve(ready)), name=NAME, daemon=True
                )
                self._thread.start()
                ready.wait()
                _alive.add(self)
                _ask_for_a_call_at_the_end()
            assert self._loop
            return self._loop

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._over.wait()
