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
        found = stalls.describe(context.state.stalled, time.time())
        context.add(found)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(found.time))
        await _take_stacks(context, hosts, stamp)
        await collector.pull(final=False)
        if context.request.stop_stalled:
            raise Stalled(found.seconds, found.behind)


async def _take_stacks(context: RunContext, hosts: HostSet, stamp: str) -> None:
    """Wait until every reachable host has written its stacks."""
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
