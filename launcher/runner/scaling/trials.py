"""Runs a job for a short time on one number of hosts after another, and reads how fast it was.

Each trial is an ordinary run with its own folder and receipt; that it is stopped is no failure.
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
from .rates import NoRate, Number, Rate, Reader, rate


@frozen
class Terms:
    """How every trial is done. ``seconds`` count from the start of all processes, ``warmup`` seconds
    from the first number; ``own`` is the user's pattern."""

    seconds: float
    warmup: float
    own: re.Pattern[str] | None = None
    per_rank: bool = False


class Trials:
    """Trials one after another, that can be stopped. ``begun`` is told the number of hosts and the
    run's name, ``ended`` each trial and its receipt."""

    def __init__(
        self,
        terms: Terms,
        begun: Callable[[int, str], None] = lambda nodes, run: None,
        ended: Callable[[Trial, Receipt], None] = lambda trial, receipt: None,
    ) -> None:
        self.interrupted = False
        self._terms, self._begun, self._ended = terms, begun, ended
        self._run: Run | None = None
        self._unit: str | None = None  # of the first trial that has one: all are compared in it

    def stop(self) -> None:
        """Ends the trial that runs, at once when asked a second time; no other one begins."""
        self.interrupted = True
        if self._run:
            self._run.stop()

    async def all(self, requests: Sequence[Request]) -> list[Trial]:
        """As many as were done; what failed among them says so. Raises LauncherError when this machine
        cannot hold a run's folder."""
        done: list[Trial] = []
        for request in requests:
            if not self.interrupted:
                done.append(await self._one(request))
        return done

    async def _one(self, request: Request) -> Trial:
        folder = RunFolder.create(request.job.name)
        reader = Reader(self._terms.own)
        loop = asyncio.get_running_loop()
        clock: asyncio.TimerHandle | None = None

        def over() -> None:
            if not run.switch.asked.is_set():  # a second wish would kill
                run.stop(StopReason.TRIAL_OVER)

        def on_event(event: ev.Event) -> None:
            nonlocal clock
            if isinstance(event, ev.AllStarted):  # again, after the port was taken
                if clock:
                    clock.cancel()
                clock = loop.call_later(self._terms.seconds, over)

        def on_log(host: str, log: str, data: bytes) -> None:
            if not run.switch.asked.is_set():  # ranks that are being ended are slow
                reader.feed(log, data, loop.time())

        run = self._run = Run(request, folder, on_event, on_log)
        nodes = request.job.num_nodes or 1
        self._begun(nodes, run.name)
        try:
            receipt = await follow(run, run.execute())
        finally:
            self._run = None
            if clock:
                clock.cancel()
        if receipt.status == "succeeded":
            reader.finish(loop.time())
        trial = _trial(nodes, run, receipt)
        if not trial.problem:
            try:
                trial = replace(trial, rate=await self._rate(run, reader))
            except NoRate as why:
                early = "stopped before it had a rate"
                trial = replace(
                    trial, problem=early if receipt.reason == StopReason.BY_USER else str(why)
                )
            if trial.rate:
                self._unit = self._unit or trial.rate.unit
        self._ended(trial, receipt)
        return trial

    async def _rate(self, run: Run, reader: Reader) -> Rate:
        """Raises NoRate."""
        terms, numbers, lacking = self._terms, reader.numbers, ""
        if not numbers and terms.own is None:
            try:
                numbers = await asyncio.to_thread(scalars.steps, run.folder.outputs)
            except scalars.NoReader as error:
                lacking = f"; {error}"
        if not numbers and reader.unreadable:
            raise NoRate(f"the pattern found {reader.unreadable!r}, which is not a number")
        return _rate(numbers, run, terms, self._unit, lacking)


def _rate(numbers: list[Number], run: Run, terms: Terms, unit: str | None, lacking: str) -> Rate:
    try:
        return rate(numbers, run.layout, terms.warmup, terms.per_rank, unit)
    except NoRate as why:
        raise NoRate(f"{why}{lacking}") from None


def _trial(nodes: int, run: Run, receipt: Receipt) -> Trial:
    """What is known of a trial but its rate."""
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
    """Why a run was no good as a trial; empty when it was."""
    if receipt.status == "succeeded" or receipt.reason in (
        StopReason.TRIAL_OVER,
        StopReason.BY_USER,
    ):
        return ""
    if failure := receipt.failure:
        who = f"rank {failure.rank}" if failure.rank is not None else failure.key
        return f"{failure.host} {who} {failure.meaning}"
    return receipt.error or f"{receipt.status} ({receipt.reason})"
