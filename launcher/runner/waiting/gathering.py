"""A run that several hosts start together: its launcher lets them meet, and learns what became of it.

Where only the first host decides whether the run begins, it writes that down before it tells the others.
So whatever a launcher wants to change while a run waits, it tells that one first. See
docs/decisions/0070-hosts-meet.md. Where another host may lead later, most of them have to agree to a
start, and each that is told to wait again says what it has agreed to: docs/decisions/0095-succession.md.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...records import events as ev
from ...records.reasons import EndReason, StopReason
from ...records.run_reader import RunReader
from ...records.state import RunState
from ...spec import errors
from ...spec.model import Plan
from ..concurrency import beside, together
from ..context import RunContext
from ..host_session import HostSession, Phase
from ..launch import Launch
from ..policy.restart import PORT_TRIES
from ..stop import Stopped
from . import left_to_hosts
from .left_to_hosts import FEWEST_VOTERS
from .place import Place
from .ways import find_ways, number_of_ways, on
from .witnesses import Witnesses

#: Seconds for all hosts to find each other, before anybody is told that the run waits.
MEET = 10.0
#: Seconds for a host that is not needed to end its part.
LEAVES = 5.0
#: Seconds for hosts that have taken a run back into the queue to find each other, before they are told
#: again: a launcher may have been killed while it told them what they need for that.
BACK = 90.0
#: Seconds until hosts are asked again to wait that could not be, or did not find each other.
PAUSE = 2.0


class Gathering:
    """The hosts of one run that wait for each other."""

    def __init__(self, context: RunContext, place: Place) -> None:
        self._context, self._place = context, place
        self._witnesses = Witnesses(context, place.membership)
        self._is_told = False  # hosts wait, as far as this launcher knows
        self._left_out: set[str] = set()  # of which some did not answer when the others were told
        self._unfit: set[str] = set()  # and some cannot wait any more
        self._unsure: dict[str, set[str]] = {}  # by wait, where it may have begun, as others agreed
        self._void: set[str] = set()  # waits in which it has not

    async def leave(self, launch: Launch) -> None:
        """Leave the run to its hosts. Raises HostError; MeetingError if these cannot meet."""
        await launch.require()
        names = tuple(session.name for session in launch.sessions)
        for session in launch.sessions:
            session.starts_by_itself = True
        if len(names) > 1:
            wanted, most = launch.layout.wanted, launch.layout.most
            succeeds = await self._may_succeed(launch)
            self._context.add(ev.LeftToHosts(time.time(), names, wanted, most, succeeds))
        while not self._is_told:
            try:
                await self._tell(launch, ())
            except errors.ConnectionLost:
                await self._reached(launch)
        async with beside(self._witnesses.keep(launch.sessions)):
            await self._context.event_log.until(
                lambda: self._have_met or self._is_decided(launch), MEET
            )

    async def _may_succeed(self, launch: Launch) -> bool:
        """Return whether another host may lead the run once the first is gone: where enough of them wait
        to be a majority without it, and all know how."""
        enough = launch.layout.wanted > 0 and len(launch.sessions) >= FEWEST_VOTERS
        if not enough or self._place.may_return or self._context.job.master_addr:
            return False
        try:
            asked = (self._knows(one, "succeeds") for one in launch.sessions)
            return all(await asyncio.gather(*asked))
        except errors.ConnectionLost:
            return False

    @property
    def _have_met(self) -> bool:
        """Whether the hosts of the run are in touch, as far as this launcher knows."""
        state = self._context.state
        return state.met is not None or (bool(state.waits_on) and not state.waits_with)

    async def until_begun(self, launch: Launch) -> Plan | None:
        """Wait until all hosts of the run have begun it by themselves; return its plan. None where they
        have begun, and taken it back into the queue since.

        Raises GpusInUse when it took longer than the run was to wait, and Stopped when the run was
        stopped otherwise.
        """
        sessions, log = launch.sessions, self._context.event_log
        for session in sessions:  # who takes a run up from its hosts has just learned that it waits
            session.starts_by_itself = not self._context.state.has_begun_on(session.name)
        self._is_told = self._is_told or self._have_met or self._has_returned(launch)
        watching = self._place.watch(sessions, launch.layout)
        patience = BACK if self._has_returned(launch) and not self._have_met else None
        async with beside(watching), beside(self._witnesses.keep(sessions)):
            while not self._has_begun(launch):
                if self._is_past(launch):
                    return None
                self._note_absent(launch)
                if self._has_failed(launch):
                    raise not_begun(self._context.state)
                dead = self._dead(launch)
                if dead or not self._is_told or self._are_back(launch):
                    await self._again(launch, dead)
                await log.until(lambda: self._is_decided(launch) or not self._is_told, patience)
                if patience and not self._have_met and not self._context.state.begun_on:
                    self._is_told = self._is_decided(launch)
                patience = None
        state = self._context.state
        await asyncio.gather(*(one.until_reached() for one in self._needed(launch)))
        return left_to_hosts.begun(launch, state.met, state.begun_on)

    async def let_go(self, sessions: Sequence[HostSession]) -> None:
        """Let go of hosts that the run did not choose: nothing of it is left where they answer."""
        if not sessions:
            return
        waiting = [one for one in sessions if not one.is_over and not one.has_died]
        await asyncio.gather(*map(self._end, waiting))
        await self._context.event_log.until(lambda: all(one.is_over for one in waiting), LEAVES)
        silent = [one for one in waiting if not one.is_over]
        await self._place.forget([one for one in sessions if one not in silent])
        names, left = (tuple(one.name for one in some) for some in (sessions, silent))
        self._context.add(ev.HostsLetGo(time.time(), names, left))

    async def _end(self, session: HostSession) -> None:
        with suppress(TimeoutError, errors.HostError):
            async with asyncio.timeout(LEAVES):
                run, why = self._context.name, StopReason.NOT_NEEDED
                await session.agent.ask("stop", run=run, grace=0.0, why=why)

    # -- what the hosts have said

    def _is_past(self, launch: Launch) -> bool:
        """Return whether hosts have taken the run back into the queue since this launch."""
        return self._context.state.returned > launch.attempt

    def _has_returned(self, launch: Launch) -> bool:
        """Return whether hosts wait again by themselves, as the attempt of this launch."""
        return launch.attempt > 0 and self._context.state.returned == launch.attempt

    def _note_absent(self, launch: Launch) -> None:
        """Let hosts wait again of a run that others have taken back into the queue, which ended there
        before they could."""
        if self._has_returned(launch):
            for session in self._absent(launch):
                session.has_died = True

    def _absent(self, launch: Launch) -> list[HostSession]:
        state = self._context.state
        known = {*state.ended_hosts, *state.begun_on}
        over = [one for one in launch.sessions if one.phase is Phase.FINISHED]
        return [one for one in over if one.name not in known and not one.has_died]

    def _needed(self, launch: Launch) -> list[HostSession]:
        """Return the hosts of the run, as far as it is known which these are."""
        chosen = self._context.state.chosen
        return [one for one in launch.sessions if not chosen or one.name in chosen]

    def _has_begun(self, launch: Launch) -> bool:
        begun, is_now = self._context.state.begun_on, not self._is_past(launch)
        return is_now and bool(begun) and all(one.name in begun for one in self._needed(launch))

    def _has_failed(self, launch: Launch) -> bool:
        """Return whether the run is over on a host where it has not begun, and which it needs."""
        state = self._context.state
        over = [
            one
            for one in self._needed(launch)
            if one.is_over and not one.has_died and one.name not in state.begun_on
        ]
        first, chosen = launch.sessions[0], state.chosen
        if not launch.layout.wanted or first.name in chosen:
            return bool(over)
        if state.succeeds and not chosen:  # where it is over without a stop, another has begun it
            return state.stop is not None or len(over) == len(launch.sessions)
        if chosen:  # without the first one, nobody else can tell them
            alone = first.is_over and not state.succeeds
            return bool(over) or (alone and state.stop is not None)
        left = {one.name for one in launch.sessions if one not in over} - self._unfit
        return first in over or len(left) < launch.layout.wanted or state.stop is not None

    def _dead(self, launch: Launch) -> list[HostSession]:
        """Return the hosts whose supervisors have died, and which may wait again."""
        needed = self._needed(launch)
        return [one for one in needed if one.has_died and one.name not in self._unfit]

    def _is_decided(self, launch: Launch) -> bool:
        """Return whether there is something to do."""
        done = self._has_begun(launch) or self._is_past(launch) or self._has_failed(launch)
        absent = self._has_returned(launch) and bool(self._absent(launch))
        return done or absent or bool(self._dead(launch)) or self._are_back(launch)

    def _are_back(self, launch: Launch) -> bool:
        """Return whether hosts answer again that were out of reach when all others were told."""
        if self._context.state.begun_on:
            return False
        return any(one.name in self._left_out and one.is_in_reach for one in launch.sessions)

    # -- what the hosts are told

    async def _again(self, launch: Launch, dead: Sequence[HostSession]) -> None:
        """Let hosts wait again, of which the supervisors of some have died, as in a reboot. Those that
        died after the run had begun are lost."""
        if self._context.state.begun_on:
            _give_up(dead)
            self._is_told = True
            return
        try:
            require_secrets(self._context, [one.name for one in dead])
        except errors.LauncherError as error:
            leads = launch.sessions[0] in dead and not self._context.state.succeeds
            if not launch.layout.wanted or leads:
                raise
            self._go_on_without(dead, error)
            return
        self._is_told = False
        try:
            await self._tell(launch, dead)
        except (errors.ConnectionLost, errors.MeetingError):
            await asyncio.sleep(PAUSE)
            await self._reached(launch)

    async def _tell(self, launch: Launch, dead: Sequence[HostSession]) -> None:
        """Ask all hosts to wait, the first one first: from then on, what they were told before is void.
        Of a run that may choose among hosts, those out of reach are told when they are back.

        Start the supervisors of those that are ``dead``. Tell nobody where the run has begun, or is
        over, as a host says that is in reach by then.
        """
        voters = [one.name for one in launch.sessions] if self._context.state.succeeds else []
        whole, reached = launch, await self._in_reach(launch)
        if reached is None:
            self._is_told = True
            return
        launch = reached
        dead = self._dead(whole) if voters else dead  # more may be back by now
        first, *others = launch.sessions
        there = {session.name for session in launch.sessions}
        self._left_out = {one.name for one in whole.sessions if one.name not in there}
        self._place.know(launch.sessions, launch.layout)
        returns = await self._may_return([one for one in launch.sessions if one not in dead])
        for _ in range(PORT_TRIES):
            meeting, ways = await find_ways(launch)
            key, more = secrets.token_hex(16), (self._place, self._witnesses)
            told = left_to_hosts.requests(launch, ways, meeting, key, *more, returns)
            if voters:
                told = left_to_hosts.with_voters(told, launch, voters, self._void)
            await _supervise(whole, [one for one in dead if one is first and one.has_died])
            try:
                answer = await self._tell_first(first, told[first.name], bool(voters))
                break
            except errors.PortTaken as taken:
                self._context.add(ev.PortReplaced(time.time(), taken.host, taken.port))
        else:
            raise errors.MeetingError(
                f"no port of {first.name} stays free for the hosts to meet", "start it again"
            )
        if answer is None:
            return
        if not voters:
            await self._tell_others(whole, launch, told, dead, answer)
            return
        again = [one for one in others if one in dead and one.has_died]
        every = (self._tell_one(whole, o, told, o in again) for o in others)
        said = [answer, *await asyncio.gather(*every)]
        self._is_told = self._note_unsure([first, *others], said)

    async def _tell_first(
        self, first: HostSession, request: Mapping[str, Any], is_voter: bool
    ) -> Mapping[str, Any] | None:
        """Ask the first host to wait; return its answer, or None where all are to be told once more."""
        if not is_voter:
            return await first.insist(**request)
        try:
            return await first.agent.ask(**request)
        except (errors.ConnectionLost, errors.PortTaken):
            raise
        except errors.HostError:
            if await self._is_gone(first):
                return None
            raise

    async def _tell_others(
        self,
        whole: Launch,
        launch: Launch,
        told: Mapping[str, Any],
        dead: Sequence[HostSession],
        answer: Mapping[str, Any],
    ) -> None:
        """Ask the others to wait, too, if the first one, which alone leads, has not begun."""
        first, *others = launch.sessions
        if not answer.get("begun"):
            again = [one for one in others if one in dead and one.has_died]
            if launch.layout.wanted:
                await asyncio.gather(*(self._tell_one(whole, o, told, o in again) for o in others))
            else:
                await _supervise(whole, again)
                await together(one.insist(**told[one.name]) for one in others)
        elif not launch.layout.wanted:  # its journal says so, and is on its way
            _give_up([one for one in dead if one is not first])
        self._is_told = True

    async def _may_return(self, sessions: Sequence[HostSession]) -> bool:
        """Return whether these can take the run back into the queue. Supervisors of an earlier version
        would take the token of an attempt for its number. Raises ConnectionLost."""
        if not self._place.may_return:
            return False
        return all(await asyncio.gather(*(self._knows(one, "returns") for one in sessions)))

    async def _knows(self, session: HostSession, what: str) -> bool:
        """Return whether the supervisor of a host is able to. Raises ConnectionLost."""
        try:
            return bool((await session.insist(op="gang", run=self._context.name)).get(what))
        except errors.ConnectionLost:
            raise
        except errors.HostError:
            return False

    async def _tell_one(
        self, launch: Launch, session: HostSession, told: Mapping[str, Any], again: bool
    ) -> Mapping[str, Any] | None:
        """Ask a host to wait that the run may not need; return what it says to that."""
        try:
            await _supervise(launch, [session] if again else [])
            return await session.agent.ask(**told[session.name])
        except errors.ConnectionLost:
            self._left_out.add(session.name)
            if session.phase is Phase.SUPERVISED:
                session.reconnect()
        except errors.HostError as error:
            if not again and await self._is_gone(session):
                return None  # it is back after a reboot, and is told once more
            self._go_on_without([session], error)
        return None

    async def _is_gone(self, session: HostSession) -> bool:
        """Return whether a host that has refused a request has no supervisor any more, as it is about to
        say."""
        await self._context.event_log.until(lambda: session.has_died or session.is_over, PAUSE)
        return session.has_died or session.is_over

    def _note_unsure(
        self, sessions: Sequence[HostSession], answers: Sequence[Mapping[str, Any] | None]
    ) -> bool:
        """Note what hosts have agreed to that were asked to wait again; return whether all of them do.

        Each that answered waits by no earlier request. So where all have that were to start, and none
        has begun, nothing has begun by that request, and nothing will.
        """
        unbegun = set()
        for session, said in zip(sessions, answers, strict=True):
            if said is not None and not said.get("begun"):
                unbegun.add(session.name)
            unsure = said.get("unsure") if said else None
            if said and isinstance(unsure, list):
                self._unsure.setdefault(str(said.get("key")), set()).update(map(str, unsure))
        if any(said and said.get("begun") for said in answers):
            return True  # its journal says so, and is on its way
        for key in [key for key, hosts in self._unsure.items() if hosts <= unbegun]:
            del self._unsure[key]
            self._void.add(key)
        return not any(said and said.get("unsure") for said in answers)

    def _go_on_without(self, sessions: Sequence[HostSession], error: errors.LauncherError) -> None:
        """Note that hosts cannot wait again which the run may not need."""
        for session in sessions:
            self._unfit.add(session.name)
            self._context.add(
                ev.HostFailed(time.time(), session.name, error.code, error.message, error.hint)
            )

    async def _in_reach(self, launch: Launch) -> Launch | None:
        """Return the part of a launch whose hosts answer, if the run may choose among these; None once
        one of them says that it has begun, or all that it is over. The first one alone knows whether it
        has begun, and is waited for, as are enough others."""
        if not launch.layout.wanted:
            return launch
        first, succeeds = launch.sessions[0], self._context.state.succeeds
        while True:
            if not succeeds:
                await first.until_reached()
            if self._context.state.begun_on or self._has_failed(launch) or self._is_past(launch):
                return None
            known = [None] if succeeds else [first]
            there = [one.name for one in launch.sessions if one.is_in_reach or one in known]
            layout = launch.layout.of(there, launch.layout.wanted)
            enough = max(launch.layout.wanted, len(launch.sessions) // 2 + 1 if succeeds else 0)
            if len(there) >= enough and self._can_be_sure(there) and number_of_ways(layout):
                return on(launch, layout)
            await asyncio.sleep(PAUSE)

    def _can_be_sure(self, there: Sequence[str]) -> bool:
        """Return whether all hosts answer that may have begun the run."""
        return all(hosts <= {*there} for hosts in self._unsure.values())

    async def _reached(self, launch: Launch) -> None:
        """Wait until all hosts answer, or are given up; of a run that may choose, the first one."""
        for session in launch.sessions:
            if session.phase is Phase.SUPERVISED:  # the connection was lost while it was started
                session.reconnect()
        if self._context.state.succeeds:
            return  # it is told once enough of them answer
        needed = launch.sessions[:1] if launch.layout.wanted else launch.sessions
        await asyncio.gather(*(one.until_reached() for one in needed))


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
