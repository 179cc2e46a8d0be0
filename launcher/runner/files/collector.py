"""Pulls the outputs of all hosts, at intervals during a run and once at its end."""

from __future__ import annotations

import asyncio
import contextlib
import time

from ...records import events as ev
from ...spec.errors import HostError, LauncherError
from ..concurrency import in_thread
from ..context import RunContext
from ..host_session import HostSession
from ..host_set import HostSet
from . import outputs
from .outputs import Listed, Output
from .seeding import Handover

#: Copies at once: each is an rsync here.
AT_ONCE = 8
#: How often files may change while they are pulled for the last time.
TRIES = 3
#: Seconds for a lost host to answer: longer than its relay waits for a supervisor.
LAST_TRY = 20.0


class Collector:
    """Pulls outputs, one pull at a time, and knows what is here."""

    def __init__(self, context: RunContext, hosts: HostSet) -> None:
        self.outputs: tuple[Output, ...] = ()
        self.failed: dict[str, str] = {}
        self.handover = Handover(context.folder)
        self.hurry = asyncio.Event()
        self._context, self._hosts = context, hosts
        self._seen: dict[str, Listed] = {}  # by host: what has come, and what was asked for
        self._tried: dict[str, Listed] = {}
        self._links: dict[str, outputs.Links] = {}
        self._busy = asyncio.Lock()
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def every(self, seconds: float) -> None:
        """Pull every so many seconds, until cancelled. An error is retried the next time."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.hurry.wait()
            asked = self.hurry.is_set()
            self.hurry.clear()
            await self.pull(final=False, asked=asked)

    async def pull(self, final: bool = True, asked: bool = False) -> None:
        """Fetch what is new; ``failed`` says what could not be fetched, by host.

        An event reports the pull if anything is new, or a user ``asked`` for it.
        """
        async with self._busy:
            self.failed = {}
            hosts = [*self._hosts.active, *(self._hosts.aside if final else ())]
            moved = await asyncio.gather(*(self._one(session, final) for session in hosts))
            if any(moved) or final or asked or not self.outputs:
                await self._lay_together()

    async def _lay_together(self) -> None:
        hosts = tuple(session.name for session in self._hosts.active)
        former = tuple(session.name for session in self._hosts.aside)
        try:
            self.outputs = await in_thread(self._view, hosts, former)
        except (LauncherError, OSError) as error:
            self.failed["this machine"] = str(error)
        self._context.add(
            ev.OutputsPulled(
                time.time(), len(self.outputs), sum(o.size for o in self.outputs), dict(self.failed)
            )
        )

    def _view(self, hosts: tuple[str, ...], former: tuple[str, ...]) -> tuple[Output, ...]:
        older = {host: self.handover.superseded(host, hosts) for host in former}
        return outputs.lay_together(self._context.folder, hosts + former, older, self._links)

    async def _one(self, session: HostSession, final: bool) -> bool:
        """Return whether anything was copied from this host."""
        try:
            async with self._limit:
                return await self._pull(session, TRIES if final else 1)
        except HostError as error:
            self.failed[session.name] = error.message
        except (LauncherError, OSError) as error:
            self.failed[session.name] = str(error)
        except Exception as error:  # a bug of ours: missing outputs are reported all the same
            self.failed[session.name] = f"internal error: {type(error).__name__}: {error}"
        return False

    async def _pull(self, session: HostSession, tries: int) -> bool:
        mirror = self._context.folder.mirror(session.name)
        moved = False
        if session.lost:
            await session.agent.ask("contact", LAST_TRY)
        for _ in range(tries):
            listed = await outputs.listed(
                session.agent, self._context.name, self._context.job.outputs
            )
            self._links[session.name] = listed.links
            what: Listed = self.handover.own(session.name, listed)
            if what == self._seen.get(session.name):
                break
            pulled = await outputs.pull(session.connection, session.name, what, mirror)
            moved = moved or what != self._tried.get(session.name)
            self._tried[session.name] = what
            if pulled.missing:
                self.failed[session.name] = pulled.missing
                break
            self._seen[session.name] = what
        return moved
