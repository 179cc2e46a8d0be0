"""Calls functions as :mod:`concurrent.futures` does, each over the ranks of a run of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from ...spec import given
from ...spec.errors import InputError, LauncherError
from ..arguments import FunctionJob, RunOptions
from ..client import Client
from ..jobs import can_wait
from . import Ranks, job_of, results
from .call import Returns

if TYPE_CHECKING:
    from ...runner.listeners import OnEvent, OnLog
    from ..handles import RunHandle

P = ParamSpec("P")
T = TypeVar("T")


class RunFuture(futures.Future[T], Generic[T]):
    """The future of a function: ``result()`` is what rank 0 returned. ``run`` is the handle of its run
    once that has started."""

    run: RunHandle | None = None

    def results(self, timeout: float | None = None) -> list[T]:
        """Wait, and return what each rank returned, in their order. Raises what ``result`` raises."""
        self.result(timeout)
        return self._all

    def _returned(self, values: list[T]) -> None:
        self._all = values
        self.set_result(values[0])


class Executor(futures.Executor):
    """Calls functions over ranks, ``max_workers`` runs at once: ``submit``, ``map``, ``shutdown``.

        with launcher.Executor(client, nodes=2, nproc_per_node=4) as pool:
            best = max(pool.map(train, configs))

    The result of a function is what rank 0 returned. Where launcher chooses GPUs, runs wait for their
    turn. Leaving ``with`` waits for all functions; Ctrl-C there drops those that wait, and lets go of
    those that run, which go on. The other arguments are those of ``launcher.processes``.
    """

    def __init__(
        self,
        client: Client,
        *,
        max_workers: int = 4,
        returns: Returns = "pickle",
        options: RunOptions | None = None,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        **job: Unpack[FunctionJob],
    ) -> None:
        max_workers = given.value("max_workers", int, max_workers)
        if max_workers < 1:
            raise InputError(f"max_workers: {max_workers} runs at once are none")
        made = job_of(job)
        waits = {"wait": None} if can_wait(made) else {}
        how = {"on_event": on_event, "on_log": on_log, **waits}
        how |= given.values(RunOptions, options or {})
        self._ranks = Ranks(client, made, returns, how)
        self._most = max_workers
        self._guard = threading.Lock()
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._futures: list[RunFuture[Any]] = []
        self._threads: list[threading.Thread] = []
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RunFuture[T]:
        """Call a function over ranks when one of ``max_workers`` is free; return its future."""
        future: RunFuture[T] = RunFuture()
        with self._guard:
            if self._is_shut:
                raise RuntimeError("cannot submit to an executor that was shut down")
            self._futures = [one for one in self._futures if not one.done()]
            self._futures.append(future)
            self._waiting.put(
                partial(self._one, future, partial(self._ranks.start, fn, *args, **kwargs))
            )
            if len(self._threads) < min(self._most, len(self._futures)):
                # Daemons: a program that ends does not wait for its runs, which go on.
                thread = threading.Thread(target=self._serve, name="launcher", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more functions; wait for those submitted, and drop those that wait if asked to."""
        with self._guard:
            known, threads, was_shut = list(self._futures), list(self._threads), self._is_shut
            self._is_shut = True
        if cancel_futures:
            for future in known:
                future.cancel()
        if not was_shut:
            for _ in threads:
                self._waiting.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            self.shutdown()
            return
        self.shutdown(wait=False, cancel_futures=True)
        for future in self._futures:
            if (
                future.run is not None
                and not future.done()
                and future.run.detach() is None
                and error
            ):
                error.add_note(
                    f"{future.run.name} goes on: launcher.results(client.attach({future.run.name!r}))"
                )

    def _serve(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()

    def _one(self, future: RunFuture[T], start: Callable[[], RunHandle]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.run = start()
            future._returned(results(future.run))
        except futures.CancelledError:
            name = future.run.name if future.run else "the run"
            future.set_exception(LauncherError(f"this program let go of {name}, which goes on"))
        except BaseException as error:
            future.set_exception(error)
