"""Opens hosts side by side, and does not wait for one that is off while others answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from ..fleet import silent_hosts
from ..records import events as ev
from ..spec.errors import HostError, Unreachable
from ..spec.model import Host
from .concurrency import cancel
from .context import RunContext
from .host_session import HostSession
from .host_set import HostSet

#: A host is waited for until it takes so many times as long as the slowest that has answered, and at
#: least so many seconds.
TIMES, LEAST = 4.0, 3.0


class Opening:
    """The hosts of a run that are being opened. Each stands aside until it has answered, so that
    closing the set closes it."""

    def __init__(
        self,
        context: RunContext,
        hosts: HostSet,
        open_one: Callable[[HostSession], Awaitable[None]],
    ) -> None:
        self.failed: list[HostError] = []
        self._context, self._hosts, self._open_one = context, hosts, open_one
        self._pending: dict[asyncio.Task[None], HostSession] = {}
        self._began = self._slowest = 0.0
        self._answered = False
        self._expected_silent: frozenset[str] = frozenset()

    @property
    def silent(self) -> tuple[str, ...]:
        """The hosts that have not answered yet."""
        return tuple(session.name for session in self._pending.values())

    def begin(self, batch: Sequence[Host]) -> None:
        """Open these hosts, too."""
        self._began = time.monotonic()
        self._expected_silent |= silent_hosts.lately(host.name for host in batch)
        for session in map(self._hosts.new, batch):
            self._hosts.put_aside(session)
            self._pending[asyncio.ensure_future(self._open(session))] = session

    async def _open(self, session: HostSession) -> None:
        await self._open_one(session)

    async def settle(self, has_others: bool) -> None:
        """Wait until all hosts have answered or failed, or those that have not are slow.

        Unless a host has answered, or there are others to open, nobody is slow.
        """
        while self._pending:
            patience = None
            if self._answered or has_others:
                patience = self._left()
                if patience <= 0:
                    return
            done, _ = await asyncio.wait(
                self._pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                await self._take(task, self._pending.pop(task))

    async def wait(self) -> None:
        """Wait until all hosts have answered or failed."""
        while self._pending:
            done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await self._take(task, self._pending.pop(task))

    def _left(self) -> float:
        """Return how many seconds to wait for those that have not answered."""
        if self._answered and self._expected_silent.issuperset(self.silent):
            return 0.0
        return self._began + max(LEAST, TIMES * self._slowest) - time.monotonic()

    async def _take(self, task: asyncio.Task[None], session: HostSession) -> None:
        error = task.exception()
        if isinstance(error, HostError):
            self.failed.append(error)
            now, name = time.time(), session.name
            self._context.add(ev.HostFailed(now, name, error.code, error.message, error.hint))
            if isinstance(error, Unreachable):
                silent_hosts.note(name)
            await self._hosts.dismiss(session)
        elif error is not None:
            raise error
        else:
            self._answered, self._slowest = True, time.monotonic() - self._began
            silent_hosts.forget(session.name)
            self._hosts.join(session)

    async def leave(self) -> None:
        """Go on without the hosts that have not answered, and say so."""
        silent = self.silent
        if silent:
            seconds = time.monotonic() - self._began
            self._context.add(ev.HostsSilent(time.time(), silent, seconds))
            for name in silent if seconds >= LEAST else ():  # the others were not waited for
                silent_hosts.note(name)
        await self.close()

    async def close(self) -> None:
        """Give up opening hosts."""
        left = dict(self._pending)
        self._pending.clear()
        await cancel(*left)
        for session in left.values():
            await self._hosts.dismiss(session)
