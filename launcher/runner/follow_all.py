"""Follow every unfinished run of this machine that nobody else follows, until told to let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from enum import Enum

from ..records.receipt import Receipt
from ..records.run_reader import RunReader
from ..spec.errors import LauncherError
from ..spec.frozen import frozen
from .attach import Attached, Following, until_let_go
from .concurrency import cancel, race
from .unfollowed import ask, store, unfollowed, unstored

#: Seconds between two looks for runs that nobody follows.
LOOK = 5.0
#: Seconds until a run is tried again of which a host did not answer.
PAUSE = 30.0


class What(Enum):
    """What became of a run."""

    FOLLOWED = "it is followed again"
    SILENT = "a host does not answer, so it is not followed"
    ENDED = "it has ended"
    FAILED = "it cannot be followed"


@frozen
class News:
    """What became of a run: ``silent`` hosts and why, the receipt of one that ended, or a problem."""

    run: str
    what: What
    silent: Mapping[str, str] = field(default_factory=dict)
    receipt: Receipt | None = None
    problem: str = ""


class FollowAll:
    """Follows runs with ``follow``, and reports to ``tell``."""

    def __init__(
        self,
        follow: Callable[[Following], asyncio.Task[Receipt]],
        tell: Callable[[News], None],
        leaving: asyncio.Event,
    ) -> None:
        self._follow, self._tell, self._leaving = follow, tell, leaving
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._storing: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, News] = {}
        self._not_before: dict[str, float] = {}

    async def until_let_go(self) -> int:
        """Follow runs until ``leaving`` is set; return how many continue without this process.

        Ranks that are being restarted are waited for.
        """
        while not self._leaving.is_set():
            await race(self._look(), self._until_leaving())
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._leaving.wait()
        await cancel(*self._storing.values())
        going_on = [task for task in self._tasks.values() if not task.done()]
        if going_on:
            await asyncio.wait(going_on)
        return len(going_on)

    async def _look(self) -> None:
        """Begin to follow runs whose hosts all answer."""
        now = time.monotonic()
        self._tasks = {name: task for name, task in self._tasks.items() if not task.done()}
        self._storing = {name: task for name, task in self._storing.items() if not task.done()}
        left = await asyncio.to_thread(unfollowed)
        runs = {run.name: run for run in left if self._not_before.get(run.name, 0.0) <= now}
        async for answer in ask([run for name, run in runs.items() if name not in self._tasks]):
            if answer.silent:
                self._put_off(News(answer.run, What.SILENT, silent=answer.silent))
            else:
                following = self._to_the_end(runs[answer.run])
                self._tasks[answer.run] = asyncio.ensure_future(following)
        for run in await asyncio.to_thread(unstored):
            if run.name not in self._storing and self._not_before.get(run.name, 0.0) <= now:
                self._storing[run.name] = asyncio.ensure_future(self._store(run))

    async def _store(self, run: RunReader) -> None:
        """Write to the store of a run that has ended what is not there yet."""
        if not await store(run):
            self._not_before[run.name] = time.monotonic() + PAUSE
        elif receipt := await asyncio.to_thread(run.receipt):
            self._say(News(run.name, What.ENDED, receipt=receipt))

    async def _until_leaving(self) -> None:
        await self._leaving.wait()

    async def _to_the_end(self, run: RunReader) -> None:
        try:
            run.note_shown()
            attached = Attached(RunReader(run.path))
            self._say(News(run.name, What.FOLLOWED))
            following = self._follow(attached)
            receipt = await until_let_go(following, self._leaving, attached.until_on_its_own)
        except (LauncherError, OSError) as error:
            self._put_off(News(run.name, What.FAILED, problem=str(error)))
        else:
            if receipt is not None:
                self._say(News(run.name, What.ENDED, receipt=receipt))

    def _put_off(self, news: News) -> None:
        self._not_before[news.run] = time.monotonic() + PAUSE
        self._say(news)

    def _say(self, news: News) -> None:
        """Tell news, once."""
        if self._told.get(news.run) != news:
            self._told[news.run] = news
            self._tell(news)
