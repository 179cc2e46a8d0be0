"""The data sets of one run: all hosts get the same versions, before anything is started."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from ...records import events as ev
from ...records.data import FILE, UsedSet, describe
from ...records.run_reader import sets_of
from ...spec.data import Version, on_a_host
from ...spec.errors import HostError, SourceChanged, SyncError
from ...transport.answers.data import DataMissing
from .. import credentials
from ..concurrency import in_thread, together
from ..context import RunContext
from ..host_session import HostSession
from ..reached import reached_one
from . import reading, registry
from .host import Delivered, Host
from .listing import Listed

#: How often a source may change while it is copied.
TRIES = 3


class RunData:
    """Lists the data sets of a job once, and gives them to hosts."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._sets: tuple[Delivered, ...] = ()

    async def read(self) -> None:
        """List all sources, and record their versions. Raises InputError."""
        if self._context.job.data:
            await self.list_again()
            self._context.folder.write(FILE, describe(self._recorded()))

    async def list_again(self, recorded: Mapping[str, UsedSet] = {}) -> tuple[Delivered, ...]:
        """List all sources; of a host that is gone, what is ``recorded``.

        Raises InputError, HostError.
        """
        found = []
        for one in self._context.job.data:
            use = f"hosts get {one.source} as data set {one.name}"
            credentials.require_trust(self._context.folder.path, use)
            try:
                listed = await reading.read(
                    one.name, one.source, self._context.add, self._reach, one.credential
                )
            except HostError:
                if (kept := _as_recorded(recorded.get(one.name))) is None:
                    raise
                listed = kept
            found.append(Delivered(one, listed))
        self._sets = tuple(found)
        return self._sets

    def _reach(self, name: str) -> AbstractAsyncContextManager[Host]:
        request = self._context.request
        return reached_one(request.inventory, name, request.ask_passphrase)

    def _recorded(self) -> list[UsedSet]:
        return [
            UsedSet(
                one.data.name,
                one.data.source,
                one.listed.version.version,
                one.listed.version.files,
                one.listed.version.bytes,
                one.data.to,
                one.data.credential,
            )
            for one in self._sets
        ]

    async def give(
        self, sessions: Sequence[HostSession], seeds: Sequence[HostSession] = ()
    ) -> None:
        """Make sure that all hosts have the same versions, and that the run finds them there.

        ``seeds`` are other hosts that may have them. A source that changes meanwhile is listed again.
        Raises HostError.
        """
        for attempt in range(TRIES):
            try:
                await self._give(sessions, seeds)
                return
            except SourceChanged:
                before = self._sets
                await self.read()
                if attempt == TRIES - 1 or [one.listed.version for one in before] == [
                    one.listed.version for one in self._sets
                ]:
                    raise

    async def _give(self, sessions: Sequence[HostSession], seeds: Sequence[HostSession]) -> None:
        if not self._sets:
            return
        while True:
            missing = await together(self._use(one) for one in sessions)
            if not any(missing):
                break
            for one in self._sets:
                version = one.listed.version.version
                lacking = [
                    session
                    for session, its in zip(sessions, missing, strict=True)
                    if version in its
                ]
                if lacking:
                    having = [session for session in sessions if session not in lacking]
                    await self._bring_from(lacking, [*having, *seeds], one)
        for session in sessions:
            for one in self._sets:
                if not self._is_given(session.name, one):
                    self._note(session.name, one, 0, time.time())
        await in_thread(self._note_whereabouts, [session.name for session in sessions])

    def _note_whereabouts(self, hosts: Sequence[str]) -> None:
        from . import whereabouts  # once a run has data

        for one in self._sets:
            if not one.listed.is_shared:
                whereabouts.note(one.data, hosts, one.listed.version)

    async def _use(self, session: HostSession) -> tuple[str, ...]:
        """Let the run use its data sets on a host; return the versions that it lacks."""
        sets = [
            {
                "name": one.data.name,
                "to": one.data.to,
                "version": one.listed.version.version,
                "at": os.fspath(one.listed.folder) if _is_there(one.listed, session.name) else "",
                "shared": one.listed.is_shared,
            }
            for one in self._sets
        ]
        answer = await session.agent.answer(
            DataMissing, "data", do="use", run=self._context.name, sets=sets
        )
        return answer.missing

    async def _bring_from(
        self, sessions: Sequence[HostSession], seeds: Sequence[HostSession], one: Delivered
    ) -> None:
        """Bring a version to hosts, with the help of the one where its source is."""
        there, having = one.listed.there, [_host(session) for session in seeds]
        if not there or any(host.name == there for host in having):
            await self._bring(sessions, having, one)
            return
        async with AsyncExitStack() as stack:
            try:
                having.append(await stack.enter_async_context(self._reach(there)))
            except HostError:
                if not having:
                    raise
            await self._bring(sessions, having, one)

    async def _bring(
        self, sessions: Sequence[HostSession], seeds: Sequence[Host], one: Delivered
    ) -> None:
        """Bring a version to hosts; raise the first error once all others have it, or have failed."""
        from .passing import bring_all  # few runs have data that a host lacks

        started, size = time.time(), one.listed.version.bytes

        def progress(host: str, percent: int) -> None:
            self._context.add(ev.SyncProgressed(time.time(), host, percent, size))

        def alone(hosts: Sequence[str]) -> None:
            self._context.add(ev.DataNotPassed(time.time(), one.data.name, tuple(hosts)))

        found = await bring_all(
            [_host(session) for session in sessions],
            one,
            progress,
            alone,
            self._context.job.master_port,
            seeds,
            self._context.add,
        )
        for host, copied in found.items():
            if not isinstance(copied, HostError):
                self._note(host, one, copied, started)
        for copied in found.values():
            if isinstance(copied, HostError):
                raise copied

    def _note(self, host: str, one: Delivered, copied: int, started: float) -> None:
        version = one.listed.version
        given = ev.DataGiven(
            time=time.time(),
            host=host,
            name=one.data.name,
            version=version.version,
            files=version.files,
            bytes=version.bytes,
            copied=copied,
            seconds=time.time() - started,
        )
        self._context.add(given)

    def _is_given(self, host: str, one: Delivered) -> bool:
        """Return whether it is recorded that a host has a version."""
        given = (event for event in self._context.events if isinstance(event, ev.DataGiven))
        key = (host, one.data.name, one.listed.version.version)
        return any((event.host, event.name, event.version) == key for event in given)


def _host(session: HostSession) -> Host:
    return Host(session.name, session.agent, session.connection)


def _is_there(listed: Listed, host: str) -> bool:
    return listed.is_shared or listed.there == host


def _as_recorded(used: UsedSet | None) -> Listed | None:
    """Return what a run had of a source on a host, if its list of files is still here."""
    there = on_a_host(used.source) if used else None
    if used is None or there is None:
        return None
    listed = registry.folder() / "manifests" / used.version
    version = Version(used.version, used.files, used.bytes)
    return Listed(version, Path(), listed, there=there[0]) if listed.exists() else None


async def give_spare(
    context: RunContext, session: HostSession, others: Sequence[HostSession] = ()
) -> None:
    """Give a host that joins later what the ``others`` have. Raises HostError, InputError."""
    recorded = {one.name: one for one in sets_of(context.folder.path)}
    data = RunData(context)
    for one in await data.list_again(recorded):
        before = recorded.get(one.data.name)
        if before is None or one.listed.version.version != before.version:
            raise SyncError(
                session.name,
                f"{one.data.source} has changed since the other hosts got data set "
                f"{one.data.name}, whose version they have",
                "put the source back as it was, and rerun; or go on with the hosts that are left",
            )
    await data.give([session], [one for one in others if not one.agent.closed.done()])
