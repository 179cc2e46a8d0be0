"""The attempts of a run, one after another: read :meth:`Attempts.run`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..records import codec
from ..records import events as ev
from ..records.reasons import EndReason, Reason, StopReason
from ..spec import errors
from ..spec.model import Plan
from . import shutdown, stall_watch, traceback_watch
from .concurrency import beside, race
from .context import RunContext
from .files.collector import Collector
from .host_session import HostSession
from .host_set import HostSet
from .launch import Launch
from .policy import elastic, turn
from .policy.restart import (
    another_try,
    gives_way,
    may_look_again,
    may_replace_ports,
    was_preempted,
)
from .replacement import Replacement
from .second_look import SecondLook
from .stdin import Stdin
from .waiting.membership import HeldBack
from .waiting.place import Place

if TYPE_CHECKING:
    from .waiting.gathering import Gathering

#: Seconds for the last output of a process to arrive after its exit was reported.
LAST_WORDS = 0.5
#: Seconds until a run looks again that somebody was quicker than.
PAUSE = 0.5


class Attempts:
    """Starts all processes, follows them, and starts them again when the policy says so."""

    def __init__(
        self,
        context: RunContext,
        hosts: HostSet,
        place: Place,
        collector: Collector,
        replacement: Replacement,
        store: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._store = store  # writes outputs to the job's store, if it has one
        self._context, self._hosts, self._place = context, hosts, place
        self._collector, self._replacement = collector, replacement
        self._second_look = SecondLook(context, hosts, collector)
        self._stdin = Stdin(context, hosts)
        self._gathered: Gathering | None = None  # of a run that several hosts start
        self._number = context.state.attempt
        self._ports: Mapping[str, Collection[int]] = {}
        self._gives_way = False  # it has given its GPUs back, and waits for some again

    async def run(self, is_running: bool = False) -> None:
        """Make attempts until one is the last. ``is_running``: another launcher started the first.

        Raises Stopped when the user asks to stop before everything is started, and LauncherError
        when the last attempt ended with one.
        """
        while True:
            error = await self._attempt(is_running)
            if self._has_returned and not self._context.state.lost:
                await self._follow_return()
                is_running = True
                continue
            why = await self._why_restart(error)
            if why is None or not await self._prepare_restart(why):
                break
            is_running = False
        if error is not None:
            raise error

    async def _attempt(self, is_running: bool) -> errors.LauncherError | None:
        """Start all processes unless they run, and wait until the attempt is over.

        Returns the error that ended it, if another attempt may follow such an error.
        """
        try:
            if not is_running:
                self._context.enter("wait" if self._place.starts_by_itself else "start")
                await self._context.switch.unless_asked(self._start())
            elif self._context.state.waits_on:
                await self._context.switch.unless_asked(self._until_begun())
            if self._has_returned:
                return None
            self._context.enter("run")
            await self._follow()
        except (errors.PortTaken, errors.GpuBusy, errors.Stalled) as error:
            return error
        return None

    async def _start(self) -> None:
        if self._place.starts_by_itself:
            await self._leave_to_hosts()
            return
        await self._keep_place()
        if self._gives_way:
            await self._wait_for_turn()
        while True:
            launch = self._launch()
            try:
                await self._place.membership.take(launch.gpus)
                await launch.claim()
                plan = await launch.start()
                break
            except errors.GpuBusy:  # somebody took a GPU without waiting for his turn
                await self._place.membership.give_back()
                if not self._may_wait:
                    raise
            except HeldBack:  # somebody else of its project was quicker
                if not self._may_wait:
                    raise self._place.refusal() from None
                await self._place.tell_rule()
            if await self._is_left_after_all(launch):
                return
            await asyncio.sleep(PAUSE)
            await self._wait_for_turn()
        self._context.event_log.note("plan.json", codec.describe_plan(plan))
        self._ports = plan.ports
        self._context.add(ev.AllStarted(time.time(), self._number))
        await self._place.membership.close()  # nobody needs these connections while it runs

    @property
    def _may_wait(self) -> bool:
        """Whether the run may wait for its turn: one that gave its GPUs back has to."""
        return self._place.can_wait or self._gives_way

    async def _wait_for_turn(self) -> None:
        """Wait until the GPUs of the hosts that the run has are free for it."""
        layout = await self._place.until_turn(self._hosts.layout, patient=self._gives_way)
        self._hosts.settle(layout)
        self._context.event_log.note("run.json", self._context.describe(layout))

    # -- a run that its hosts start

    @property
    def _gathering(self) -> Gathering:
        from .waiting.gathering import Gathering  # few runs wait

        self._gathered = self._gathered or Gathering(self._context, self._place)
        return self._gathered

    @property
    def _gathers(self) -> bool:
        """Whether several hosts start it together, or decide together whether one may."""
        return len(self._hosts.active) > 1 or self._place.membership.rule is not None

    async def _leave_to_hosts(self) -> None:
        """Let the hosts of the run start it when its turn has come, and wait for that."""
        if self._gathers:
            await self._gathering.leave(self._launch())
            await self._until_begun()
            return
        from .waiting.left_to_host import wait_request

        (session,) = self._hosts.active
        request = await wait_request(self._launch(), *self._place.for_host())
        session.starts_by_itself = True
        await session.insist(**request, seconds=self._place.wait_left())
        log = self._context.event_log
        await log.until(lambda: bool(log.state.waits_on) or session.is_over or session.has_died)
        await self._until_begun()

    async def _is_left_after_all(self, launch: Launch) -> bool:
        """Leave a run that was too late to the hosts that it has, if they can start it; return whether
        they have begun it."""
        from .waiting import leaving  # few runs wait

        membership = self._place.membership
        if launch.attempt or not await leaving.is_possible(self._context, membership, launch):
            return False
        self._context.enter("wait")
        self._place.settle(launch.layout)
        self._place.starts_by_itself = True
        await self._leave_to_hosts()
        return True

    async def _until_begun(self) -> None:
        """Wait until the hosts have begun the run by themselves, and take note of that.

        Raises GpusInUse when it took longer than the run was to wait, and Stopped when the run was
        stopped there otherwise.
        """
        plan: Plan | None
        self._place.is_patient = self._place.is_patient or self._number > 0
        if self._gathers:
            plan = await self._gathering.until_begun(self._launch())
            if plan is None:
                return
        else:
            plan = await self._until_begun_on(self._hosts.active[0])
        self._place.starts_by_itself, waited = False, self._hosts.active
        began = max(event.time for event in self._context.state.begun_on.values())
        self._hosts.settle(plan.layout)
        self._place.know(self._hosts.active, plan.layout)
        await self._let_others_go(waited)
        self._context.event_log.note("run.json", self._context.describe(plan.layout))
        self._context.event_log.note("plan.json", codec.describe_plan(plan))
        self._ports = plan.ports
        self._context.enter("start")
        meeting = plan.meeting
        address, port = meeting.master_addr, int(meeting.master_port)
        self._context.add(ev.HostsMet(began, address, port, meeting.interfaces))
        self._context.add(ev.AllStarted(began, self._number))
        await self._place.membership.close()  # nobody needs these connections while it runs

    async def _let_others_go(self, waited: Sequence[HostSession]) -> None:
        """Let go of the hosts that waited, too, and were not chosen: also of one that was away when the
        others were told anew."""
        others = [one for one in self._hosts.aside if one in waited]
        await self._gathering.let_go(others)
        await asyncio.gather(*map(self._hosts.dismiss, others))

    async def _until_begun_on(self, session: HostSession) -> Plan:
        """Wait until the only host has begun the run by itself; return its plan."""
        from .waiting.gathering import not_begun
        from .waiting.left_to_host import begun

        watching = self._place.watch([session], self._hosts.layout)
        async with beside(watching):
            while (event := self._context.state.begun_there) is None:
                if session.is_over:
                    raise not_begun(self._context.state)
                if session.has_died:
                    await self._wait_again(session)
                await self._context.event_log.until(
                    lambda: (
                        bool(self._context.state.begun_there) or session.is_over or session.has_died
                    )
                )
        await session.until_reached()
        return begun(self._launch(), event)

    async def _wait_again(self, session: HostSession) -> None:
        """Let the host wait again, whose supervisor has died, as in a reboot."""
        from .waiting.gathering import require_secrets
        from .waiting.left_to_host import wait_request

        require_secrets(self._context, [session.name])
        try:
            await self._launch().supervise()
            request = await wait_request(self._launch(), *self._place.for_host())
            await session.insist(**request, seconds=self._place.wait_left())
        except errors.ConnectionLost:
            session.reconnect()

    # -- its place in the queue

    async def _keep_place(self) -> None:
        """Have a ticket on the hosts of the layout, with the run's first number: whoever waits does so
        behind it."""
        shares, sessions = turn.shares_of(self._hosts.layout), self._with_gpus()
        if shares and set(sessions) != set(self._place.sessions):
            await self._place.enter(sessions, shares, strict=False)

    async def _rest(self) -> None:
        """Give the place in the queue up; a run that may start again needs it. One that may have to give
        its GPUs back leaves its hosts what they need to wait for others."""
        job = self._context.job
        of_roles = any("restart" in role.on_exit for role in job.roles)
        request = self._context.request
        again = request.max_restarts or of_roles or request.preemptible
        if again and (sessions := self._with_gpus()):
            await self._place.rest(sessions, self._hosts.layout)
        else:
            await self._place.leave()
        if request.preemptible:
            from .waiting.returning import Returning  # few runs give GPUs back

            await Returning(context=self._context, place=self._place).leave(self._launch())

    # -- a run that its hosts have taken back into the queue

    @property
    def _has_returned(self) -> bool:
        """Whether hosts wait by themselves to make the next attempt."""
        return self._context.state.returned > self._number

    async def _follow_return(self) -> None:
        """Take note that the hosts wait with the next attempt, and bring what the run wrote, unless that
        begins before."""
        context = self._context
        self._number, self._gives_way = context.state.returned, True
        self._place.is_patient = True
        context.enter("restart")
        await self._settle_on(context.state.left_to)
        log = context.event_log
        await context.switch.unless_asked(
            race(self._bring_and_store(), log.until(lambda: bool(log.state.begun_on)))
        )

    async def _settle_on(self, names: Sequence[str]) -> None:
        """Let go of hosts that the run had not chosen when nobody was in touch."""
        if self._hosts.layout.wanted and names:
            self._hosts.settle(self._hosts.layout.of(names))
            others = [one for one in self._hosts.aside if one.is_supervised and one.lost is None]
            await self._gathering.let_go(others)
            await asyncio.gather(*map(self._hosts.dismiss, others))
            self._context.event_log.note("run.json", self._context.describe(self._hosts.layout))

    async def _bring_and_store(self) -> None:
        for session in self._hosts.active:
            session.was_asked_to_preload = False
        with suppress(errors.HostError):
            await self._launch().preload()
        await self._collector.pull(final=False)
        await self._store()

    def _with_gpus(self) -> list[HostSession]:
        there = {node.host.name for node in self._hosts.layout.nodes if node.gpus}
        return [one for one in self._hosts.active if one.name in there and one.lost is None]

    async def _follow(self) -> None:
        """Wait until the attempt is over. Raises Stalled when a stall ends the run."""
        if not self._context.state.all_started:
            raise errors.LauncherDied()
        context = self._context
        async with beside(self._rest()), beside(self._stdin.feed()):
            await race(
                self._until_over(),
                stall_watch.watch(context, self._hosts, self._collector),
                traceback_watch.watch(context.event_log, context.add),
            )

    async def _until_over(self) -> None:
        log = self._context.event_log
        while True:
            await log.until(lambda: self._is_over() or bool(self._dead))
            if self._is_over():
                break
            await self._judge(self._dead)

    @property
    def _dead(self) -> list[HostSession]:
        """The hosts whose supervisors have died of a run that may give way."""
        return [one for one in self._hosts.active if one.has_died]

    async def _judge(self, dead: Sequence[HostSession]) -> None:
        """Give up hosts whose supervisors have died, unless the run gives way: then it is over there.
        The others know whether it does, or have to hear of it."""
        others = [one for one in self._hosts.active if one not in dead]
        await self._context.event_log.until(
            lambda: self._is_over() or all(one.is_in_reach or one.is_over for one in others)
        )
        if self._is_over():
            return
        for one in dead:
            if gives_way(self._context.state):
                one.forgo()
            else:
                one.settle()
        if gives_way(self._context.state):
            await shutdown.pass_on(self._context, others, StopReason.PREEMPTED)

    def _is_over(self) -> bool:
        """Return whether the attempt is over: all processes exited, one failed, a host was lost or
        stopped on its own, or the user asked to stop."""
        state = self._context.state
        return (
            self._context.switch.asked.is_set()
            or self._has_returned
            or self._context.event_log.has_failed()
            or bool(state.expired)
            or state.primary_ended is not None
            or self._cannot_continue()
            or all(session.is_over for session in self._hosts.active)
        )

    def _cannot_continue(self) -> bool:
        state, layout, least = self._context.state, self._hosts.layout, self._context.job.elastic
        if least:
            return elastic.is_over(state, layout, least)
        return any(node.host.name in state.lost for node in layout.nodes)

    async def _why_restart(self, error: errors.LauncherError | None) -> Reason | None:
        """Return why another attempt follows this one; None when it was the last."""
        context, request = self._context, self._context.request
        if self._stdin.was_read and error is not None:
            return None
        if isinstance(error, errors.PortTaken):
            return Reason(EndReason.PORT_TAKEN) if may_replace_ports(context.events) else None
        if isinstance(error, errors.GpuBusy):
            if not may_look_again(context.events):
                return None
            context.add(ev.GpuTaken(time.time(), error.host, error.message))
            return Reason(EndReason.GPU_BUSY)
        if context.state.failure is not None:
            await self._await_last_output(context.state.failure.host)
        if context.switch.asked.is_set() or self._stdin.was_read:
            return None
        if was_preempted(context.state):
            return Reason(StopReason.PREEMPTED)
        if context.state.lost and not self._replacement.can_help():
            return None
        return another_try(
            context.state,
            context.events,
            context.event_log.last_words(),
            self._ports,
            0 if request.job.elastic else request.max_restarts,
        )

    async def _await_last_output(self, host: str) -> None:
        """Wait for a failed process's last output, which may arrive after its exit: it says whether a
        port was taken."""
        session = self._hosts.find(host)
        if session is not None and not session.is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await session.catch_up()

    async def _prepare_restart(self, why: Reason) -> bool:
        """Stop what was started, and prepare hosts that are not lost for the next attempt.

        Returns False when too few are left.
        """
        context = self._context
        context.enter("restart")
        await self._keep_place()
        await shutdown.stop(context, self._hosts.active, StopReason.RESTARTING, detail=str(why))
        self._gives_way = why.code is StopReason.PREEMPTED
        if self._gives_way:
            await self._collector.pull(final=False)
            await self._place.membership.give_back()
            await context.switch.unless_asked(self._store())
        if why.code is EndReason.GPU_BUSY:
            self._number = context.state.attempt + 1
            context.add(ev.RunRestarted(time.time(), self._number, str(why)))
            await context.switch.unless_asked(self._second_look.take(self._number))
            await self._keep_place()
            await self._place.require_turn()
        else:
            number = await context.switch.unless_asked(self._replacement.fill())
            if number is None:
                return False
            self._number = number
            context.add(ev.RunRestarted(time.time(), number, str(why)))
        await context.switch.unless_asked(self._supervise_again())
        if self._gives_way:
            await context.switch.unless_asked(self._return())
        return True

    async def _return(self) -> None:
        """Let the hosts wait by themselves, of which none was left to take the run back."""
        from .waiting.returning import Returning  # few runs give GPUs back

        self._gathered, self._place.is_patient = None, True
        returning = Returning(self._context, self._place)
        self._place.starts_by_itself = await returning.is_possible(self._launch())

    async def _supervise_again(self) -> None:
        await shutdown.let_go(self._context, self._hosts.aside)
        launch = self._launch()
        await launch.supervise(warm=True)
        await launch.preload()

    def _launch(self) -> Launch:
        return Launch(self._context, self._hosts.active, self._hosts.layout, self._number)
