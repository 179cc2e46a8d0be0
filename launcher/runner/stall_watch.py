"""What is done about a run that stalls: told, stacks of all ranks brought here, and ended if wished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..records import events as ev
from ..records import stalls
from ..spec.errors import HostError, Stalled
from .event_log import Ledger
from .files.collector import Collector
from .host_session import Link

#: Seconds in which the hosts have to take their stacks.
PATIENCE = 30.0


async def watch(
    links: Sequence[Link], run: str, ledger: Ledger, collector: Collector, stop: bool
) -> None:
    """Waits for stalls, again and again. Raises Stalled at the first one, with ``stop``."""
    told: list[ev.StallBegan] = []
    while True:
        await ledger.until(
            lambda: stalls.has_stalled(ledger.state, [link.name for link in links], told)
        )
        told[:] = ledger.state.stalled.values()
        found = stalls.describe(ledger.state.stalled, time.time())
        ledger.add(found)
        await _take(links, run, ledger, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(found.time)))
        await collector.pull(final=False)
        if stop:
            raise Stalled(found.seconds, found.behind)


async def _take(links: Sequence[Link], run: str, ledger: Ledger, stamp: str) -> None:
    """Until every host that can be asked has written its stacks down."""
    begun = len(ledger.events)
    going = [link for link in links if not link.ended.is_set()]

    async def ask(link: Link) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await link.agent.ask("stacks", run=run, stamp=stamp)
        except (TimeoutError, HostError):
            asked.discard(link.name)

    def told() -> set[str]:
        return {e.host for e in ledger.events[begun:] if isinstance(e, ev.StacksTaken)}

    asked = {link.name for link in going}
    await asyncio.gather(*(ask(link) for link in going))
    await ledger.until(lambda: asked <= told() | ledger.state.ended_hosts, PATIENCE)
