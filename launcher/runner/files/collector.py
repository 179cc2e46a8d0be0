"""Pulls the outputs of all hosts, at intervals during a run and once at its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from ...records import events as ev
from ...records import live_files
from ...records.receipt import Because, NotBrought
from ...spec.errors import HostError, LauncherError
from ...spec.model import AUTO
from ..concurrency import in_thread
from ..context import RunContext
from ..host_session import HostSession
from ..host_set import HostSet
from . import outputs
from .also import asked_for
from .choice import Choice
from .outputs import Listed
from .seeding import Handover
from .view import Links, Outputs, lay_together

#: Copies at once: each is an rsync here.
AT_ONCE = 8
#: How often files may change while they are pulled for the last time.
TRIES = 3
#: Seconds for a host to list what was not brought, when the user does not want to wait.
LAST_LOOK = 3.0
#: Why outputs did not come.
SKIPPED = "you did not wait for them"
#: Seconds for a lost host to answer: longer than its relay waits for a supervisor.
LAST_TRY = 20.0


class Collector:
    """Pulls outputs, one pull at a time, and knows what is here."""

    def __init__(self, context: RunContext, hosts: HostSet) -> None:
        self.outputs = Outputs()
        self.failed: dict[str, str] = {}
        self.not_brought: tuple[NotBrought, ...] = ()
        self.handover = Handover(context.folder, context.request)
        self.hurry = asyncio.Event()
        self._context, self._hosts = context, hosts
        self._seen: dict[str, Listed] = {}  # by host: what has come, and what was asked for
        self._tried: dict[str, Listed] = {}
        self._links: dict[str, Links] = {}
        self._listed: dict[str, Listed] = {}  # by host: what it said last
        self._incomplete: set[str] = set()  # of the names in failed: something is missing here
        self._pending: set[str] = set()  # hosts of the last pull that it was not done with
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
            self.failed, self._incomplete = {}, set()
            hosts = [*self._hosts.active, *(self._hosts.aside if final else ())]
            self._pending = {session.name for session in hosts}
            moved = await asyncio.gather(*(self._one(session, final) for session in hosts))
            if any(moved) or final or asked or not len(self.outputs):
                await self._lay_together()
            if final:
                whole = [one.name for one in hosts if one.name not in self._incomplete]
                await in_thread(self._settle, whole)

    def _settle(self, hosts: Iterable[str]) -> None:
        folder = self._context.folder
        for host in hosts:
            live_files.settle(folder.path, host, folder.mirror(host))

    async def _lay_together(self) -> None:
        hosts = tuple(session.name for session in self._hosts.active)
        former = tuple(session.name for session in self._hosts.aside)
        try:
            self.outputs = await in_thread(self._view, hosts, former)
        except (LauncherError, OSError) as error:
            self._fail("this machine", str(error))
        self._context.add(
            ev.OutputsPulled(time.time(), len(self.outputs), self.outputs.total, dict(self.failed))
        )

    def _view(self, hosts: tuple[str, ...], former: tuple[str, ...]) -> Outputs:
        older = {host: self.handover.superseded(host, hosts) for host in former}
        return lay_together(self._context.folder, hosts + former, older, self._links)

    async def _one(self, session: HostSession, final: bool) -> bool:
        """Return whether anything was copied from this host."""
        moved = False
        try:
            async with self._limit:
                moved = await self._pull(session, final)
        except HostError as error:
            self._fail(session.name, error.message)
        except (LauncherError, OSError) as error:
            self._fail(session.name, str(error))
        except Exception as error:  # a bug of ours: missing outputs are reported all the same
            self._fail(session.name, f"internal error: {type(error).__name__}: {error}")
        self._pending.discard(session.name)
        return moved

    def _fail(self, name: str, why: str) -> None:
        self.failed[name] = why
        self._incomplete.add(name)

    async def _pull(self, session: HostSession, final: bool) -> bool:
        mirror = self._context.folder.mirror(session.name)
        moved = False
        if session.lost:
            await session.agent.ask("contact", LAST_TRY)
        for _ in range(TRIES if final else 1):
            what = await self._look(session, compare=final)
            if what == self._seen.get(session.name):
                break
            pulled = await outputs.pull(
                session.connection, session.name, what, mirror, self._progress(session.name)
            )
            moved = moved or what != self._tried.get(session.name)
            self._tried[session.name] = what
            if pulled.missing:
                self.failed[session.name] = pulled.missing
                self._incomplete |= set() if pulled.complete else {session.name}
                break
            self._seen[session.name] = what
        return moved

    async def _look(self, session: HostSession, compare: bool) -> Listed:
        """Return what a host has written itself, and remember that."""
        also = asked_for(self._context.folder.path)
        choice = Choice.of(self._context.job, also)
        lost = bool(
            self._context.job.share and self._context.state.lost
        )  # then others have its files
        listed = await outputs.listed(session.agent, self._context.name, choice, compare, lost)
        self._links[session.name] = listed.links
        what = self._listed[session.name] = self.handover.own(session.name, listed)
        return what

    def _progress(self, host: str) -> outputs.Progress:
        def told(size: int, percent: int) -> None:
            self._context.add(ev.OutputsProgressed(time.time(), host, percent, size))

        return told

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The paths that the job calls outputs, of which no host has listed any file."""
        everything = self._listed.values()
        return tuple(
            pattern
            for pattern in self._context.job.outputs
            if everything and pattern != AUTO
            if not any(outputs.has_written(what, pattern) for what in everything)
        )

    def holders(self, path: str) -> tuple[str, ...]:
        """Return the hosts that have written a path of the run's folder, as ``code/ckpt/last.pt``."""
        kind, _, name = path.partition("/")
        return tuple(h for h, what in self._listed.items() if _has(what, kind == "code", name))

    # -- what did not come

    @property
    def incomplete(self) -> frozenset[str]:
        """The hosts whose outputs are not all here, as far as anybody knows."""
        return frozenset(self._incomplete)

    async def conclude(self) -> None:
        """Find out what the hosts have that is not here. The last pull may have been broken off: then
        look once more, and show what has come."""
        hosts = {one.name: one for one in (*self._hosts.active, *self._hosts.aside)}
        left = [hosts[name] for name in sorted(self._pending) if name in hosts]
        self._pending = set()
        await asyncio.gather(*(self._look_again(session) for session in left))
        self.not_brought = await in_thread(self._missing)
        others = [
            hosts[name] for name in self._lacking if name in hosts and hosts[name] not in left
        ]
        if others:
            await asyncio.gather(*(self._forget_deleted(session) for session in others))
            self.not_brought = await in_thread(self._missing)
        missing = self._lacking
        for session in left:
            if session.name in missing or session.name not in self._listed:
                self._fail(session.name, SKIPPED)
        for host in missing - self.failed.keys():  # its rsync said nothing
            mirror = self._context.folder.mirror(host)
            if count := await in_thread(outputs.absent, self._listed[host], mirror):
                self._fail(host, f"it did not send {count} of the files that it lists")
        if left:
            await self._lay_together()

    async def _look_again(self, session: HostSession) -> None:
        with contextlib.suppress(TimeoutError, HostError):
            async with asyncio.timeout(LAST_LOOK):
                await self._look(session, compare=True)

    async def _forget_deleted(self, session: HostSession) -> None:
        """Look once more at a host whose files did not all come: a run that goes on deletes some."""
        before = self._listed[session.name]
        await self._look_again(session)
        self._listed[session.name] = await in_thread(
            outputs.still_there, before, self._listed[session.name]
        )

    @property
    def _lacking(self) -> set[str]:
        """The hosts that have files which are not here."""
        return {one.host for one in self.not_brought if one.because is Because.MISSING}

    def _missing(self) -> tuple[NotBrought, ...]:
        found = []
        for host, what in sorted(self._listed.items()):
            files, size = outputs.not_here(what, self._context.folder.mirror(host), or_later=True)
            if files:
                found.append(NotBrought(host, "", files, size, Because.MISSING))
            if what.kept[0]:
                found.append(NotBrought(host, "", *what.kept, Because.KEPT))
            found += [
                NotBrought(host, one.path, one.files, one.bytes, Because.OUTSIDE)
                for one in what.written
            ]
        return tuple(found)


def _has(what: Listed, in_code: bool, name: str) -> bool:
    """Return whether a host has written a file, a link or a folder with files."""
    files = what.code if in_code else what.outputs
    if any(link == name for link, _ in what.links):
        return True
    if any(path == name or path.startswith(name + "/") for path in files.paths):
        return True
    outside = [one.path for one in what.written] if in_code else []
    return any(name == one or (one[-1:] == "/" and name.startswith(one)) for one in outside)
