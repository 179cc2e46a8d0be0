"""Ends a run on all hosts, and proves that nothing of it is left.

A host that cannot be reached is waited for as long as the grace allows; then it is reported, and
what runs there ends when it is next reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..records import events as ev
from ..records.reasons import EndReason, StopReason
from ..spec.errors import HostError
from .event_log import Ledger, StopSwitch
from .host_session import Link

#: Seconds after the grace within which a supervisor has to be gone.
AFTER_GRACE = 10.0


async def stop(
    links: Sequence[Link],
    run: str,
    grace: float,
    why: StopReason,
    ledger: Ledger,
    switch: StopSwitch,
    detail: str = "",
) -> None:
    """Asks every supervisor to end what it owns, and waits until all of it is gone and told.

    Without grace as soon as the user asks a second time.
    """
    alive = [link for link in links if link.supervised and not link.ended.is_set()]
    if not alive:
        return
    ledger.add(ev.StopRequested(time.time(), why, detail=detail))
    await _listen(alive, run)
    grace = 0.0 if switch.kill.is_set() else grace
    await _ask(alive, run, grace, why)
    if grace > 0:
        await ledger.until(lambda: _all_ended(alive) or switch.kill.is_set(), grace)
        if switch.kill.is_set():
            await _ask(alive, run, 0.0, StopReason.KILLED_BY_USER)
    await ledger.until(lambda: _all_ended(alive), AFTER_GRACE)
    for link in alive:
        silent = not link.agent.closed.done()
        link.give_up(EndReason.SUPERVISOR_SILENT if silent else EndReason.HOST_UNREACHABLE)


async def _listen(links: Sequence[Link], run: str) -> None:
    """Broken off between a supervisor's start and our first listening: hear its end, too."""
    for link in links:
        if not link.following:
            try:
                await link.follow(run, AFTER_GRACE)
            except HostError:
                pass  # the wait that follows tells


def _all_ended(links: Sequence[Link]) -> bool:
    return all(link.ended.is_set() for link in links)


async def _ask(links: Sequence[Link], run: str, grace: float, why: StopReason) -> None:
    async def one(link: Link) -> None:
        try:
            async with asyncio.timeout(AFTER_GRACE):
                await link.agent.ask("stop", run=run, grace=grace, why=why)
        except (TimeoutError, HostError):
            pass  # the wait that follows tells

    await asyncio.gather(*(one(link) for link in links if not link.ended.is_set()))


async def sweep(links: Sequence[Link], run: str, ledger: Ledger) -> None:
    """Looks at all processes of every host once more, and kills what carries the run's mark."""

    async def one(link: Link) -> None:
        try:
            async with asyncio.timeout(AFTER_GRACE):
                found = await link.agent.ask("sweep", run=run, host=link.name, kill=True)
        except (TimeoutError, HostError):
            return  # the receipt says that it could not be verified
        ledger.add(
            ev.HostSwept(
                time=time.time(),
                host=link.name,
                left=tuple(found["left"]),
                killed=found["killed"],
                scanned=found["scanned"],
                unreadable=found["unreadable"],
            )
        )

    await asyncio.gather(*(one(link) for link in links if link.supervised))
