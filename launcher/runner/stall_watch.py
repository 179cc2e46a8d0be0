"""Watches for stalls: reports them, fetches the stacks of all ranks, and stops the run on request."""

from __future__ import annotations

import asyncio
import time

from ..records import events as ev
from ..records import stalls
from ..spec.errors import HostError, Stalled
from .context import RunContext
from .files.collector import Collector
from .host_session import HostSession
from .host_set import HostSet

#: Seconds for the hosts to write their stacks.
PATIENCE = 30.0


async def watch(context: RunContext, hosts: HostSet, collector: Collector) -> None:
    """Report every stall. Raises Stalled at the first one if the request says to stop then."""
    reported: tuple[ev.StallBegan, ...] = ()

    def has_stalled() -> bool:
        return stalls.has_stalled(context.state, [one.name for one in hosts.active], reported)

    while True:
        await context.event_log.until(has_stalled)
        reported = tuple(context.state.stalled.values())
        state = context.state
        found = stalls.describe(state.stalled, time.time(), state.processes.values())
        context.add(found)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(found.time))
        over = await _take_stacks(context, hosts, stamp)
        await collector.pull(final=False)
        if context.request.stop_stalled:
            raise Stalled(found.seconds, over or found.behind)


async def _take_stacks(context: RunContext, hosts: HostSet, stamp: str) -> str:
    """Wait until every reachable host has written its stacks. Return of a rank that its script is over,
    as a sentence."""
    before = len(context.events)
    running = [session for session in hosts.active if not session.is_over]

    async def ask(session: HostSession) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                await session.agent.ask("stacks", run=context.name, stamp=stamp)
        except (TimeoutError, HostError):
            return False
        return True

    answers = await asyncio.gather(*(ask(session) for session in running))
    asked = {session.name for session, did in zip(running, answers, strict=True) if did}

    def are_taken() -> bool:
        taken = {e.host for e in context.events[before:] if isinstance(e, ev.StacksTaken)}
        return asked <= taken | context.state.ended_hosts

    await context.event_log.until(are_taken, PATIENCE)
    taken = [event for event in context.events[before:] if isinstance(event, ev.StacksTaken)]
    return next((stalls.over(e.host, *item) for e in taken for item in e.over.items()), "")
