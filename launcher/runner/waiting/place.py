"""A run's place in the queue: a ticket on each host that it may use, until its GPUs are locked.

The tickets are held by the agents of this run's own connections (tickets.py). Those of a run that
its hosts start are held by its supervisors. See docs/decisions/0055-tickets.md,
0057-started-by-the-host.md and 0070-hosts-meet.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...records import events as ev
from ...records.reasons import WaitReason
from ...spec.errors import GpusInUse, HostError, LauncherError
from ...spec.model import Layout
from ...transport.answers.queue import WaitingThere
from ..context import RunContext
from ..host_session import HostSession
from ..policy import projects, turn
from ..policy.turn import Begin, Wait
from .membership import Membership, refusal
from .tickets import HeldTickets, forget, take_away

#: Seconds between two looks at who works on the GPUs outside launcher, and where the run waits for that.
MEASURE, MEASURE_OUTSIDE = 60.0, 5.0
#: Seconds between two looks at what a project has: on other hosts than those that the run waits on,
#: nothing tells of a change.
PROJECT = 2.0


class Place:
    """Enters, waits and leaves. ``sessions`` are the hosts where the run has a ticket."""

    def __init__(self, context: RunContext) -> None:
        self.sessions: tuple[HostSession, ...] = ()
        self.starts_by_itself = False  # its hosts start the run
        self.is_patient = False  # it has given its GPUs back, and waits for as long as that takes
        self.fixed: Layout | None = None  # that of a run which no other hosts would do for
        self.membership = Membership(context)
        self._takes: tuple[str, ...] = ()  # runs that are asked for GPUs
        self._is_resting = False  # the run has its GPUs
        self._context = context
        self._shares: tuple[int, ...] = ()
        self._most = (
            0  # on how many hosts an elastic run may begin, if not just on one for each share
        )
        self._settled: Layout | None = None  # where its processes are, once the run has its hosts
        self._number: int | None = None
        self._since = time.monotonic()
        self._aside = self._is_stale = False
        self._priority = context.request.priority
        self._tickets = HeldTickets(self._made_for)
        self._told: ev.RunWaits | None = None
        self._ticket: dict[str, Any] | None = {}
        self._wish: tuple[int | None, bool] | None = None  # to be moved, before it is in the queue

    async def enter(
        self,
        sessions: Sequence[HostSession],
        shares: Sequence[int],
        strict: bool = True,
        most: int = 0,
    ) -> None:
        """Have a ticket on these hosts, and on no others. The first one is behind all that are there.

        An elastic run asks for the least ``shares``, and may begin on as many as ``most`` hosts.
        Raises HostError for a host that does not answer. The ticket of a run that starts again (not
        ``strict``) is that of its start, and such hosts are passed over.
        """
        left = [one for one in self.sessions if one not in sessions]
        self.sessions, self._shares, self._most = tuple(sessions), tuple(shares), most
        self._is_resting = False
        least = sorted(self._shares)[: self._context.job.elastic]  # all, if it is not elastic
        self.membership.require_fit(self._gpus if self.fixed else sum(least))
        if self._number is None:
            await self.membership.look(self._gpus)  # before it is in the queue
        if self._number is None:
            try:
                await self._enter_behind(strict)
            except HostError:
                self._number = None  # it is behind all only once it has asked all hosts
                raise
        else:
            await self._hold(strict)
        await take_away(left)

    async def _enter_behind(self, strict: bool) -> None:
        """Have a ticket behind all that are there."""
        self._since = time.monotonic()
        self._number = int(self._context.started)  # most likely after all: no second round
        await self._hold(strict)
        numbers = [
            ticket.number
            for run, there in turn.waiting(self._in_sight()).items()
            for ticket in there.values()
            if run != self._name
        ]
        if strict and numbers and max(numbers) >= self._number:
            self._number = max(numbers) + 1
            await self._hold(strict)

    @property
    def can_wait(self) -> bool:
        """Whether the run may wait for its turn."""
        request = self._context.request
        return turn.can_wait(request.job) and (request.wait is None or request.wait > 0)

    @property
    def may_return(self) -> bool:
        """Whether the run may have to give its GPUs back, and to wait again: what was read of its stdin
        is lost to another attempt."""
        request = self._context.request
        return request.preemptible and not request.stdin and self.membership.rule is not None

    @property
    def others(self) -> int:
        """How many other runs have a ticket on these hosts."""
        return len(set(turn.waiting(self._in_sight())) - {self._name})

    async def require_turn(self) -> None:
        """Raise GpusInUse if runs that came earlier need the GPUs that this one could take."""
        await self._tickets.look(self.sessions)
        if self.others and not self.is_first:
            raise behind(self.others)

    @property
    def is_first(self) -> bool:
        """Whether it is this run's turn."""
        return isinstance(self._decide(), Begin)

    @property
    def only_host(self) -> HostSession | None:
        """The host that can start the run by itself: the only one that it waits on."""
        alone = len(self.sessions) == 1 and (self.fixed is None or self.fixed.num_nodes == 1)
        return self.sessions[0] if alone else None

    def any_layout(self) -> Layout:
        """Return the layout of the run on its only host, with any GPUs. Raises PlanError."""
        if self.fixed is not None:
            return self.fixed
        (stand,) = self._in_sight()
        job = self._context.job
        return turn.provisional(job, stand, self._shares, self._context.name)

    def layout_of_hosts(self) -> Layout | None:
        """Return the layout of a run that its hosts may start: on those that it needs, each with the
        same number of GPUs whatever is free; or on all that it may choose among. None for any other."""
        if self.fixed is not None:
            return self.fixed if self.fixed.num_nodes > 1 else None
        least, shares = len(self._shares), sorted(self._shares, reverse=True)
        stands, shares = self._in_sight(), shares[:1] * self._most or shares
        if len(self.sessions) < 2 or len(stands) < len(self.sessions):
            return None
        if shares[0] == shares[-1]:
            stands = [one for one in stands if len(one.gpus) >= shares[0]]
        job, are_equal = self._context.job, shares[0] == shares[-1]
        if len(stands) == len(shares) == least:
            all_of_them = self._layout_of_all(stands)
            if all_of_them is not None or are_equal:
                return all_of_them
        if not are_equal and job.elastic is not None:
            return None
        choose = turn.layout_of_any if are_equal else turn.layout_of_any_unequal
        found = choose(job, stands, shares, self._context.name)
        if found is None or least == len(shares):
            return found
        return replace(found, wanted=least, most=len(shares))

    def _layout_of_all(self, stands: Sequence[turn.Stand]) -> Layout | None:
        """Return the layout of a run that needs all of these hosts, if each can have one share alone."""
        sizes = sorted(len(one.gpus) for one in stands)
        sizes, shares = sizes[::-1], sorted(self._shares, reverse=True)
        for mine, following, there in zip(shares, shares[1:], sizes[1:], strict=False):
            if following < mine <= there:
                return None  # either host could have either share
        hosts, facts = [one.host for one in stands], {one.host.name: one.facts for one in stands}
        layout = turn.idle_layout(self._context.job, hosts, facts, self._context.name)
        return layout if turn.shares_of(layout) == tuple(shares) else None

    async def layout_now(self) -> Layout | None:
        """Return the layout that the run may take now; None if it has to wait."""
        await self._look_at_project()
        answer = self._decide()
        return self._layout(answer) if isinstance(answer, Begin) and not self._held else None

    async def may_begin(self) -> bool:
        """Return whether it is this run's turn on the hosts where it has a ticket, and its project lets
        it begin."""
        await self._look_at_project()
        return not self._held and (not self.others or self.is_first)

    def refusal(self) -> LauncherError:
        """Return the error of a run that does not wait, and cannot begin."""
        rule, standing = self.membership.rule, self.membership.standing
        if rule is None or not self._held:
            return behind(self.others)
        most = rule.limit if standing.why is WaitReason.LIMIT else rule.quota
        return refusal(standing, rule.name, most, self._gpus)

    async def until_turn(self, layout: Layout | None = None, patient: bool = False) -> Layout:
        """Return the layout that the run may take now, as soon as it may: the one that it has, with GPUs
        that are free, or a new one. Raises GpusInUse when that takes longer than it wants to wait; with
        ``patient`` it waits as long as it takes."""
        wait = None if patient else self._context.request.wait
        settles: float | None = None  # until when an elastic run looks out for more hosts
        self._is_resting, measured = False, time.monotonic()
        if layout is not None:
            before, self._settled = self._parts, layout
            self._is_stale = self._is_stale or self._parts != before
        while True:
            self._tickets.changed.clear()
            if self._is_stale:
                self._is_stale = False
                await self._hold()
            await self._look_at_project(takes=True)
            answer = self._decide_on(layout)
            if isinstance(answer, Begin) and not self._held:
                await self._tickets.look(self.sessions)  # what was seen first may be old
                answer = self._decide_on(layout)
            begins = isinstance(answer, Begin) and not self._held
            settles = (settles or time.monotonic() + turn.SETTLE) if begins else None
            if answer is not None and (self._held or isinstance(answer, Wait)):
                await self._tell(answer)
            left = MEASURE if wait is None else self._since + wait - time.monotonic()
            if isinstance(answer, Begin) and settles is not None:
                left = min(left, settles - time.monotonic()) if self._may_grow(answer) else 0.0
                if left <= 0:
                    self._came()
                    return self._layout(answer, layout)
            elif left <= 0:
                raise self.refusal() if self._held else _still_in_use(answer)
            if self.membership.rule is not None:
                left = min(left, PROJECT)
            measured = await self._until_news(answer, measured, left)

    def _may_grow(self, answer: Begin) -> bool:
        """Return whether an elastic run could begin on more hosts, if these were free."""
        return len(answer.gpus) < self._most

    # -- its project

    @property
    def _gpus(self) -> int:
        """How many GPUs the run wants; an elastic one, at least."""
        if self.fixed is not None:
            return sum(len(node.gpus) for node in self.fixed.nodes)
        return sum(self._shares)

    async def tell_rule(self) -> None:
        """Record which rule of its project holds the run back, which has just lost a race."""
        if self._held:
            await self._tell(self._decide() or Wait(self._name, 1, turn.BUSY))

    @property
    def _held(self) -> bool:
        """Whether a rule of its project holds the run back."""
        return self.membership.standing.why is not None

    async def _look_at_project(self, takes: bool = False) -> None:
        """Learn how the run stands in its project, and say so in its ticket; a run that waits also
        ``takes`` back what others have borrowed. Raises InputError for a user who may not use it."""
        if self.membership.rule is None:
            return
        before = self.membership.standing
        standing = await self.membership.look(self._gpus)
        asked = self._to_take_back() if takes and standing.within else ()
        if (before.within, before.why, self._takes) != (standing.within, standing.why, asked):
            self._takes = asked
            self._aside = standing.why is not None
            await self._hold()

    def _to_take_back(self) -> tuple[str, ...]:
        """Return the runs that are asked for GPUs, which they have borrowed."""
        rule, standing = self.membership.rule, self.membership.standing
        run, borrowed = self._context.name, self.membership.borrowed
        assert rule is not None
        if standing.why is WaitReason.LIMIT:
            uses, gpus = self.membership.uses, self._gpus
            return projects.enough_for_limit(rule, uses, run, gpus, borrowed)
        if standing.why is not None or isinstance(self._decide(), Begin):
            return ()
        hosts = [one.name for one in self.sessions]
        return projects.to_take_back(self._in_sight(), run, hosts, borrowed)

    def ticket_of_host(self) -> dict[str, Any]:
        """Return the ticket that the only host holds for the run, which it starts by itself."""
        ticket = {**self._made(), "by_itself": True}
        return {**ticket, **self._only(self.sessions[0].name if self.sessions else "")}

    def for_host(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return that ticket, and the rules by which the host believes those of others."""
        return self.ticket_of_host(), self.membership.rules

    def ticket_for(self, host: str) -> dict[str, Any]:
        """Return the ticket that one of several hosts holds for the run, which they start together."""
        made = {name: one for name, one in self._made().items() if name not in _OF_LEADER}
        return {**made, "aside": False, **self._part(host), **self._only(host)}

    def for_hosts(self) -> dict[str, Any] | None:
        """Return what the hosts of the run have to know of its project, if it has one."""
        return self.membership.for_hosts(self._gpus)

    def wait_left(self) -> float | None:
        """Return for how many seconds the run may wait from now on; None: for ever."""
        wait = None if self.is_patient else self._context.request.wait
        return None if wait is None else max(0.0, self._since + wait - time.monotonic())

    async def watch(self, sessions: Sequence[HostSession], layout: Layout) -> None:
        """Tell what a run waits for whose hosts hold its tickets, until this is cancelled.

        The first host is told of another ticket.
        """
        await self.close()
        self.know(sessions, layout)
        if self._number is None:  # another launcher began to wait
            self._since = time.monotonic() - (time.time() - self._context.started)
        self._ticket = None
        self._tickets.keep(self.sessions)
        measured = time.monotonic()
        while True:
            self._tickets.changed.clear()
            if self._is_stale:
                self._is_stale = False
                await self._move_on_hosts(sessions)
            elif there := turn.waiting(self._in_sight()).get(self._name):
                self._learn(next(iter(there.values())))
            if self.membership.rule is not None:
                await self._learn_standing()
            answer = self._decide()
            if answer is not None and (self._held or isinstance(answer, Wait)):
                await self._tell(answer)
            most = MEASURE if self.membership.rule is None else PROJECT
            measured = await self._until_news(answer, measured, most)

    async def _move_on_hosts(self, sessions: Sequence[HostSession]) -> None:
        """Have the hosts wait with another ticket: the one that leads tells the others."""
        run, first = self._context.name, sessions[0]
        if self._context.state.succeeds:  # any of them may lead
            there = [one for one in sessions if one.is_in_reach]
            asked = (o.agent.ask("move", run=run, ticket=self.ticket_for(o.name)) for o in there)
            await asyncio.gather(*asked, return_exceptions=True)
            return
        with suppress(HostError):
            alone = len(sessions) == 1 and self.membership.rule is None
            ticket = self.ticket_of_host() if alone else self.ticket_for(first.name)
            await first.insist(op="move", run=run, ticket=ticket)

    async def _learn_standing(self) -> None:
        """Learn how a run stands in its project whose hosts decide, only to tell it: they may lack a
        majority where this launcher has one."""
        await self.membership.look(self._gpus)
        self._takes = self._to_take_back() if self.membership.standing.within else ()
        claims = [one for stand in self._tickets.stands.values() for one in stand.members]
        held = {one.held for one in claims if one.run == self._name and one.waits}
        if WaitReason.NO_MAJORITY in held:
            self._takes = ()
            self.membership.lack_majority()

    def settle(self, layout: Layout) -> None:
        """Wait for the hosts of this layout alone, and of each for what it is to give."""
        self._settled = layout

    def know(self, sessions: Sequence[HostSession], layout: Layout) -> None:
        """Take note of what a run waits for that another launcher may have started."""
        with_gpus = [node.host.name for node in layout.nodes if node.gpus]
        self.sessions = tuple(one for one in sessions if one.name in with_gpus)
        self._shares, self._most = turn.shares_of(layout), layout.most
        self.fixed = layout if turn.is_fixed(self._context.job) else None

    def _learn(self, own: WaitingThere) -> None:
        """Take note of the ticket that a host holds for the run."""
        self._number, self._priority = own.number, own.priority
        if not own.only and not own.part:  # there, a long list of shares has become a shorter one
            self._shares = own.sizes
        if self._wish:
            (priority, first), self._wish = self._wish, None
            self.move(priority, first)

    def move(self, priority: int | None, first: bool) -> None:
        """Wait with another priority, or before all others of the same one."""
        if self._number is None:
            self._wish = priority, first
            return
        self._priority = self._priority if priority is None else priority
        if first:
            numbers = [
                ticket.number
                for run, there in turn.waiting(self._in_sight()).items()
                for ticket in there.values()
                if run != self._name and ticket.priority == self._priority
            ]
            self._number = min([*numbers, self._number or 0]) - 1
        self._is_stale = True
        self._tickets.changed.set()

    async def rest(self, sessions: Sequence[HostSession], layout: Layout) -> None:
        """Keep a ticket while the run has its GPUs: it counts as soon as it has not, until it starts
        again."""
        await self.close()
        if self._number is None:
            self._number = int(self._context.started)
        self._takes, self._is_resting = (), True
        if tuple(sessions) != self.sessions or self.membership.rule is not None:
            self.sessions, self._shares = tuple(sessions), turn.shares_of(layout)
            self._settled = layout
            self._ticket = self._made()
        self._tickets.renew(self.sessions)
        self._is_stale = True  # to wait again, it has to look again

    async def leave(self) -> None:
        """Give the place up: the run has its GPUs, or wants none any more."""
        await self._tickets.drop(self.sessions)
        self.sessions = ()

    async def close(self) -> None:
        """Stop renewing tickets; they go with their connections."""
        await self._tickets.close()

    async def forget(self, sessions: Sequence[HostSession]) -> None:
        """Remove the code of the run from hosts where nothing of it was started."""
        await forget(sessions, self._context.name)

    # -- tickets

    @property
    def _name(self) -> str:
        return turn.short(self._context.name)

    async def _hold(self, strict: bool = False) -> None:
        """Show the ticket as it is now on all hosts, and keep it there."""
        self._ticket = self._made()
        error = await self._tickets.show(self.sessions)
        if error and strict:
            raise error

    def _made(self) -> dict[str, Any]:
        rule, standing = self.membership.rule, self.membership.standing
        of_project: dict[str, Any] = {}
        if rule is not None and not self._is_resting:
            flags = _flags(standing, self._context.request.preemptible)
            member = {"project": rule.name, "gpus": self._gpus, "flags": flags}
            of_project = {"within": standing.within, "member": member, "takes": list(self._takes)}
        return {
            **of_project,
            "number": int(self._context.started) if self._number is None else self._number,
            "priority": self._priority,
            "seconds": self._context.request.time_limit,
            "waited": round(time.monotonic() - self._since),
            "hosts": len(self.sessions),
            "shares": list(self._shares),
            "aside": self._aside,
        }

    def _made_for(self, host: str) -> dict[str, Any] | None:
        return self._ticket and {**self._ticket, **self._part(host), **self._only(host)}

    @property
    def _parts(self) -> dict[str, int]:
        """The GPUs that it needs of each host, where each has a part of its own."""
        layout = self._settled or self.fixed
        return turn.parts_of(layout) if layout else {}

    def _part(self, host: str) -> dict[str, Any]:
        """Return what the ticket for a host has more, where each has a part of its own."""
        return {"part": self._parts[host]} if host in self._parts else {}

    def _only(self, host: str) -> dict[str, Any]:
        """Return what the ticket for a host has more, where the user named the GPUs."""
        fixed, named = self.fixed, self._context.job.resources.gpu_ids
        if fixed is None or not named or not turn.can_be_named(fixed):
            return {}
        return {"only": [g for one in fixed.nodes if one.host.name == host for g in one.gpus]}

    # -- decisions

    def _in_sight(self) -> list[turn.Stand]:
        model = self._context.job.resources.gpu_model
        rules, stands = self._context.request.inventory.projects, self._tickets.stands
        return [
            turn.Stand(one.host, one.facts, projects.vouched(rules, stands[one.name]), model)
            for one in self.sessions
            if one.name in stands
        ]

    async def _until_news(
        self, answer: Begin | Wait | None, measured: float, most: float = MEASURE
    ) -> float:
        """Wait for a change, at most so long, and look when it is time who works on the GPUs outside
        launcher. Return when that was looked at last."""
        again = MEASURE_OUTSIDE if isinstance(answer, Wait) and "" in answer.runs else MEASURE
        with suppress(TimeoutError):
            async with asyncio.timeout(min(most, again)):
                await self._tickets.changed.wait()
        if time.monotonic() < measured + again:
            return measured
        await asyncio.gather(*map(_measure, self.sessions))
        return time.monotonic()

    def _decide(self) -> Begin | Wait | None:
        """Return what the run may do now: an elastic one begins with the largest number of hosts that
        are free and that its project allows, and waits for the least."""
        for count in range(self._most, len(self._shares), -1):
            shares = self._shares[:1] * count
            standing = self.membership.standing_with(sum(shares))
            if standing.why is None:
                answer = self._answer(shares, standing.within)
                if isinstance(answer, Begin):
                    return answer
        return self._answer()

    def _answer(self, shares: Sequence[int] = (), within: bool = True) -> Begin | Wait | None:
        run, hosts = self._context.name, [one.name for one in self.sessions]
        return turn.of_run(turn.decide(self._in_sight(), run, hosts, shares, within), run)

    def _decide_on(self, layout: Layout | None) -> Begin | Wait | None:
        """Decide for a run that has a layout: with unequal parts, a host may have room for the other's
        part alone, and the run waits."""
        answer, known = self._decide(), layout or self.fixed
        if isinstance(answer, Begin) and known and not turn.fits(known, answer.gpus):
            return Wait(self._name, 1, turn.BUSY)
        return answer

    def _came(self) -> None:
        if self._told is not None:
            self._told = None
            self._context.add(ev.TurnCame(time.time(), time.monotonic() - self._since))

    def _layout(self, answer: Begin, layout: Layout | None = None) -> Layout:
        stands = self._in_sight()
        layout = layout or self.fixed
        if layout is not None:
            facts = {one.host.name: one.facts for one in stands}
            return turn.with_gpus(layout, facts, answer.gpus)
        return turn.layout(self._context.job, stands, answer, self._context.name)

    async def _tell(self, answer: Begin | Wait) -> None:
        """Record why the run waits, if that is new; a run that can begin nowhere holds nobody back."""
        from ..policy import news  # few runs wait

        if news.is_passing(answer, self._name):
            return
        event = news.of_turn(answer, self._in_sight(), time.time())
        if (rule := self.membership.rule) is not None:
            standing, uses = self.membership.standing, self.membership.uses
            event = news.of_project(event, rule, standing, self._takes, uses)
        if self._told is None or not news.alike(event, self._told):
            self._told = event
            self._context.add(event)
        aside = event.why in news.ASIDE or self._held
        if aside is not self._aside and self._ticket is not None:
            self._aside = aside
            await self._hold()


#: What a ticket says that the leader of hosts which start the run decides.
_OF_LEADER = ("within", "member", "takes")
#: What its claim says of a waiting run, by the rule that holds it back. Also in
#: launcher.agent.host.projects.
_LETTERS = {WaitReason.QUOTA: "k", WaitReason.LIMIT: "l", WaitReason.NO_MAJORITY: "m"}


def _flags(standing: projects.Standing, preemptible: bool) -> str:
    """Return what the claim of a waiting run says."""
    letters = _LETTERS[standing.why] if standing.why else ""
    return f"w{'p' if preemptible else ''}{'q' if standing.within else ''}{letters}"


def behind(others: int) -> GpusInUse:
    """Return the error of a run that does not wait for its turn."""
    runs = "1 other run waits" if others == 1 else f"{others} other runs wait"
    return GpusInUse(
        f"{runs} for these GPUs, and came earlier",
        "--wait forever waits for the turn of this one; launcher queue shows who waits",
    )


def _still_in_use(answer: Wait | Begin | None) -> GpusInUse:
    place = f", and it is number {answer.place}" if isinstance(answer, Wait) else ""
    return GpusInUse(
        f"the time to wait is over{place}",
        "--wait forever waits for as long as it takes",
    )


async def _measure(session: HostSession) -> None:
    with suppress(HostError):
        await session.look_again()
