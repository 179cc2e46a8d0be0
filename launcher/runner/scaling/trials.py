"""Runs a job for a short time on one number of hosts after another, and reads its rate.

Each trial is an ordinary run with its own folder and receipt; being stopped is no failure.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ...records import events as ev
from ...records.reasons import StopReason
from ...records.receipt import Receipt
from ...records.run_folder import RunFolder
from ...spec.frozen import frozen
from ...spec.model import Request
from ..attach import follow
from ..run import Run
from . import scalars
from .compare import Trial
from .rates import NoRate, Rate, Reader, rate


@frozen
class Terms:
    """How every trial is run. ``seconds`` count from the start of all processes, ``warmup`` seconds
    from the first number; ``own`` is the user's pattern."""

    seconds: float
    warmup: float
    own: re.Pattern[str] | None = None
    per_rank: bool = False


class _Execution:
    """One trial while it runs: stopped when its time is over, its output read until then."""

    def __init__(self, request: Request, terms: Terms) -> None:
        self.reader = Reader(terms.own)
        folder = RunFolder.create(request.job.name)
        self.run = Run(request, folder, self._on_event, self._on_log)
        self._seconds = terms.seconds
        self._loop = asyncio.get_running_loop()
        self._clock: asyncio.TimerHandle | None = None

    async def receipt(self) -> Receipt:
        """Run to the end, and return the receipt."""
        try:
            receipt = await follow(self.run, self.run.execute())
        finally:
            self._cancel_clock()
        if receipt.status == "succeeded":
            self.reader.finish(self._loop.time())
        return receipt

    def _on_event(self, event: ev.Event) -> None:
        if isinstance(event, ev.AllStarted):  # a second time where a port was taken
            self._cancel_clock()
            self._clock = self._loop.call_later(self._seconds, self._time_is_over)

    def _on_log(self, host: str, log: str, data: bytes) -> None:
        if not self.run.switch.asked.is_set():  # ranks that are being stopped are slow
            self.reader.feed(log, data, self._loop.time())

    def _time_is_over(self) -> None:
        if not self.run.switch.asked.is_set():  # a second press would kill
            self.run.stop(StopReason.TRIAL_OVER)

    def _cancel_clock(self) -> None:
        if self._clock:
            self._clock.cancel()


class Trials:
    """Trials one after another, that can be stopped. ``on_start`` gets the number of hosts and the
    run's name, ``on_end`` each trial and its receipt."""

    def __init__(
        self,
        terms: Terms,
        on_start: Callable[[int, str], None] = lambda nodes, run: None,
        on_end: Callable[[Trial, Receipt], None] = lambda trial, receipt: None,
    ) -> None:
        self.interrupted = False
        self._terms, self._on_start, self._on_end = terms, on_start, on_end
        self._run: Run | None = None
        self._unit: str | None = None  # of the first trial that has one: all are compared in it

    def stop(self) -> None:
        """Stop the current trial, without grace when asked a second time; no other one starts."""
        self.interrupted = True
        if self._run:
            self._run.stop()

    async def all(self, requests: Sequence[Request]) -> list[Trial]:
        """Return as many trials as were done; one that failed carries its problem.

        Raises LauncherError when this machine cannot hold a run's folder.
        """
        done: list[Trial] = []
        for request in requests:
            if not self.interrupted:
                done.append(await self._one(request))
        return done

    async def _one(self, request: Request) -> Trial:
        execution = _Execution(request, self._terms)
        run = self._run = execution.run
        nodes = request.job.num_nodes or 1
        self._on_start(nodes, run.name)
        try:
            receipt = await execution.receipt()
        finally:
            self._run = None
        trial = await self._with_rate(_trial(nodes, run, receipt), execution)
        self._on_end(trial, receipt)
        return trial

    async def _with_rate(self, trial: Trial, execution: _Execution) -> Trial:
        """Return the trial with its rate, or with the problem that it has none."""
        if trial.problem:
            return trial
        try:
            found = await self._rate(execution.run, execution.reader)
        except NoRate as error:
            stopped = trial.reason == StopReason.BY_USER
            problem = "stopped before it had a rate" if stopped else str(error)
            return replace(trial, problem=problem)
        self._unit = self._unit or found.unit
        return replace(trial, rate=found)

    async def _rate(self, run: Run, reader: Reader) -> Rate:
        """Return the rate of a trial. Raises NoRate."""
        terms, numbers = self._terms, reader.numbers
        if not numbers and terms.own is None:
            numbers = await asyncio.to_thread(scalars.steps, run.folder.outputs)
        if not numbers and reader.unreadable:
            raise NoRate(f"the pattern found {reader.unreadable!r}, which is not a number")
        return rate(numbers, run.layout, terms.warmup, terms.per_rank, self._unit)


def _trial(nodes: int, run: Run, receipt: Receipt) -> Trial:
    """Return a trial without its rate."""
    placed = run.layout.nodes
    return Trial(
        nodes=nodes,
        run=receipt.run,
        hosts=tuple(node.host.name for node in placed),
        gpus=sum(len(node.gpus) for node in placed),
        processes=run.layout.world_size,
        status=receipt.status,
        reason=receipt.reason,
        seconds=receipt.seconds,
        left=receipt.left,
        problem=_problem(receipt),
    )


def _problem(receipt: Receipt) -> str:
    """Return why a run cannot serve as a trial; empty when it can."""
    if receipt.status == "succeeded" or receipt.reason in (
        StopReason.TRIAL_OVER,
        StopReason.BY_USER,
    ):
        return ""
    if failure := receipt.failure:
        who = f"rank {failure.rank}" if failure.rank is not None else failure.key
        return f"{failure.host} {who} {failure.meaning}"
    return receipt.error or f"{receipt.status} ({receipt.reason})"
