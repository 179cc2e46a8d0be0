"""Gives hosts the wheels of which they build an environment, as data sets are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...records import events as ev
from ...spec.environments import Environment
from ...spec.errors import HostError
from ...transport.answers.environments import WantedWheels
from ..concurrency import together
from ..context import RunContext
from ..data.host import Host
from ..data.passing import bring_all
from ..host_session import HostSession
from ..policy.wheels import key as key_of
from .cache import WheelCache, WheelSet

#: Called with a host, what goes on for it, and bytes: so far, and of how many.
OnHost = Callable[[str, str, int, int], None]


class Wheels:
    """The wheels of one environment of a run."""

    def __init__(
        self,
        context: RunContext,
        environment: Environment,
        log: Callable[[str], Path],
        note: OnHost,
    ) -> None:
        self._context, self._note = context, note
        self._cache = WheelCache(environment, Path(context.job.workdir), log, context.add)

    async def give(
        self,
        lacking: Mapping[HostSession, WantedWheels],
        having: Sequence[HostSession] = (),
    ) -> dict[str, str]:
        """Fetch what hosts lack, and bring it to them; return the versions of it by host. ``having`` are
        other hosts, which may pass it on. Raises LauncherError."""
        kinds: dict[str, list[HostSession]] = {}
        for session, wanted in lacking.items():
            kinds.setdefault(key_of(wanted, ""), []).append(session)
        found: dict[str, WheelSet] = {}
        hosts: dict[str, list[HostSession]] = {}
        for sessions in kinds.values():
            one = await self._fetch(sessions, lacking[sessions[0]])
            found[one.version] = one  # the same wheels may fit several kinds
            hosts.setdefault(one.version, []).extend(sessions)
        await together(self._bring(hosts[its], having, one) for its, one in found.items())
        return {session.name: its for its, theirs in hosts.items() for session in theirs}

    async def _fetch(self, sessions: Sequence[HostSession], wanted: WantedWheels) -> WheelSet:
        def say(said: str, done: int, total: int) -> None:
            for session in sessions:
                self._note(session.name, said, done, total)

        return await self._cache.get(sessions[0].name, wanted, say)

    async def _bring(
        self, sessions: Sequence[HostSession], having: Sequence[HostSession], one: WheelSet
    ) -> None:
        """Bring a set to hosts; raise the first error once all others have it, or have failed."""
        began = time.time()

        def progress(host: str, percent: int) -> None:
            self._note(host, "gets the wheels", one.bytes * percent // 100, one.bytes)
            self._context.add(ev.SyncProgressed(time.time(), host, percent, one.bytes))

        def alone(hosts: Sequence[str]) -> None:
            name = one.delivered.data.name
            self._context.add(ev.DataNotPassed(time.time(), name, tuple(hosts)))

        ports, seeds = self._context.job.master_port, [_host(session) for session in having]
        hosts = [_host(session) for session in sessions]
        copied = await bring_all(
            hosts, one.delivered, progress, alone, ports, seeds, self._context.add
        )
        for its in copied.values():
            if isinstance(its, HostError):
                raise its
        total = sum(its for its in copied.values() if isinstance(its, int))
        names = tuple(session.name for session in sessions)
        spent = time.time() - began
        self._context.add(ev.WheelsGiven(time.time(), names, one.count, one.bytes, total, spent))


def _host(session: HostSession) -> Host:
    return Host(session.name, session.agent, session.connection)
