"""A run that several hosts start together: its launcher lets them meet, and learns what became of it.

Only the first host decides whether the run begins, and writes that down before it tells the others. So
whatever a launcher wants to change while a run waits, it tells that one first. See
docs/decisions/0070-hosts-meet.md.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from ..records import events as ev
from ..records.reasons import EndReason, StopReason
from ..records.run_reader import RunReader
from ..records.state import RunState
from ..spec import errors
from ..spec.model import Plan
from . import left_to_hosts
from .concurrency import beside, together
from .context import RunContext
from .host_session import HostSession, Phase
from .launch import Launch
from .place import Place
from .policy.restart import PORT_TRIES
from .rendezvous import meet
from .stop import Stopped

#: Seconds for all hosts to find each other, before anybody is told that the run waits.
MEET = 10.0
#: Seconds until hosts are asked again to wait that could not be, or did not find each other.
PAUSE = 2.0


class Gathering:
    """The hosts of one run that wait for each other."""

    def __init__(self, context: RunContext, place: Place) -> None:
        self._context, self._place = context, place
        self._is_told = False  # all hosts wait, as far as this launcher knows

    async def leave(self, launch: Launch) -> None:
        """Leave the run to its hosts. Raises HostError; MeetingError if these cannot meet."""
        await launch.require()
        names = tuple(session.name for session in launch.sessions)
        for session in launch.sessions:
            session.starts_by_itself = True
        self._context.add(ev.LeftToHosts(time.time(), names))
        while not self._is_told:
            try:
                await self._tell(launch, ())
            except errors.ConnectionLost:
                await self._reached(launch.sessions)
        await self._context.event_log.until(
            lambda: self._context.state.met is not None or self._is_decided(launch.sessions), MEET
        )

    async def until_begun(self, launch: Launch) -> Plan:
        """Wait until all hosts have begun the run by themselves; return its plan.

        Raises GpusInUse when it took longer than the run was to wait, and Stopped when the run was
        stopped otherwise.
        """
        sessions, log = launch.sessions, self._context.event_log
        for session in sessions:  # who takes a run up from its hosts has just learned that it waits
            session.starts_by_itself = session.name not in self._context.state.begun_on
        self._is_told = self._is_told or self._context.state.met is not None
        async with beside(self._place.watch(sessions, launch.layout)):
            while not self._has_begun(sessions):
                if self._has_failed(sessions):
                    raise not_begun(self._context.state)
                dead = [one for one in sessions if one.has_died]
                if dead or not self._is_told:
                    await self._again(launch, dead)
                await log.until(lambda: self._is_decided(sessions) or not self._is_told)
        await asyncio.gather(*(one.until_reached() for one in sessions))
        met = self._context.state.met
        if met is None:
            raise errors.BadAnswer(sessions[0].name, "it has begun a run that was not left to it")
        return left_to_hosts.begun(launch, met, self._context.state.begun_on)

    # -- what the hosts have said

    def _has_begun(self, sessions: Sequence[HostSession]) -> bool:
        return all(one.name in self._context.state.begun_on for one in sessions)

    def _has_failed(self, sessions: Sequence[HostSession]) -> bool:
        """Return whether the run is over on a host where it has not begun."""
        begun = self._context.state.begun_on
        return any(one.is_over and one.name not in begun for one in sessions)

    def _is_decided(self, sessions: Sequence[HostSession]) -> bool:
        """Return whether there is something to do."""
        has_died = any(one.has_died for one in sessions)
        return self._has_begun(sessions) or self._has_failed(sessions) or has_died

    # -- what the hosts are told

    async def _again(self, launch: Launch, dead: Sequence[HostSession]) -> None:
        """Let hosts wait again, of which the supervisors of some have died, as in a reboot. Those that
        died after the run had begun are lost."""
        if self._context.state.begun_on:
            _give_up(dead)
            return
        require_secrets(self._context, [one.name for one in dead])
        self._is_told = False
        try:
            await self._tell(launch, dead)
        except (errors.ConnectionLost, errors.MeetingError):
            await asyncio.sleep(PAUSE)
            await self._reached(launch.sessions)

    async def _tell(self, launch: Launch, dead: Sequence[HostSession]) -> None:
        """Ask all hosts to wait, the first one first: from then on, what they were told before is void.

        Start the supervisors of those that are ``dead``.
        """
        job, (first, *others) = self._context.job, launch.sessions
        self._place.know(launch.sessions, launch.layout)
        for _ in range(PORT_TRIES):
            meeting = await meet(job, launch.sessions)
            told = left_to_hosts.requests(launch, meeting, self._place, secrets.token_hex(16))
            await _supervise(launch, [one for one in dead if one is first and one.has_died])
            try:
                answer = await first.insist(**told[first.name])
                break
            except errors.PortTaken as taken:
                self._context.add(ev.PortReplaced(time.time(), taken.host, taken.port))
        else:
            raise errors.MeetingError(
                f"no port of {first.name} stays free for the hosts to meet", "start it again"
            )
        if answer.get("begun"):  # its journal says so, and is on its way
            _give_up([one for one in dead if one is not first])
        else:
            await _supervise(launch, [one for one in dead if one is not first and one.has_died])
            await together(one.insist(**told[one.name]) for one in others)
        self._is_told = True

    async def _reached(self, sessions: Sequence[HostSession]) -> None:
        """Wait until all hosts answer, or are given up."""
        for session in sessions:
            if session.phase is Phase.SUPERVISED:  # the connection was lost while it was started
                session.reconnect()
        await asyncio.gather(*(one.until_reached() for one in sessions))


def require_secrets(context: RunContext, dead: Sequence[str]) -> None:
    """Raise LauncherError if this process lacks secrets of a run that hosts have to be told again."""
    unknown = set(RunReader(context.folder.path).secret_names)
    if unknown - set(context.job.secrets):
        which = " and ".join(dead) or "its hosts"
        raise errors.LauncherError(
            f"the supervisor of {which} died, and the run waits there no longer",
            f"set {', '.join(sorted(unknown))} in the environment, and attach again",
        )


def not_begun(state: RunState) -> Exception:
    """Return what ends a run that waited, and was stopped before it began."""
    if state.stop and state.stop.why is StopReason.WAIT_OVER:
        return errors.GpusInUse(
            "the time to wait is over", "--wait forever waits for as long as it takes"
        )
    return Stopped()


async def _supervise(launch: Launch, dead: Sequence[HostSession]) -> None:
    if dead:
        await replace(launch, sessions=dead).supervise()


def _give_up(dead: Sequence[HostSession]) -> None:
    for session in dead:
        session.starts_by_itself = session.has_died = False
        session.give_up(EndReason.SUPERVISOR_DIED)
