"""Stops a run on all hosts, and verifies that nothing of it is left.

An unreachable host is waited for as long as the grace allows. Then it is reported, and what runs there
is stopped at the next contact.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..records import events as ev
from ..records.reasons import EndReason, StopReason
from ..spec.errors import HostError
from ..spec.typed_json import to_json
from ..transport.answers.runs import Swept
from .context import RunContext
from .host_session import HostSession, Phase

#: Seconds after the grace in which a supervisor must exit.
AFTER_GRACE = 10.0


async def stop(
    context: RunContext,
    sessions: Sequence[HostSession],
    why: StopReason,
    *,
    detail: str = "",
    grace: float | None = None,
) -> None:
    """Ask every supervisor to stop its processes, and wait until they are gone and reported.

    ``grace`` is in seconds, by default the run's. The user's second request ends it at once.
    """
    _settle(sessions)
    alive = [one for one in sessions if one.is_supervised and not one.is_over]
    if not alive:
        return
    killed, until = context.switch.kill.is_set, context.event_log.until
    context.add(ev.StopRequested(time.time(), why, detail=detail))
    await _listen(alive)
    grace = context.grace if grace is None else grace
    grace = 0.0 if killed() else grace
    await _ask(context, alive, grace, why)
    if grace > 0:
        await until(lambda: _all_over(alive) or killed(), grace)
        if killed():
            await _ask(context, alive, 0.0, StopReason.KILLED_BY_USER)
    await until(lambda: _all_over(alive), AFTER_GRACE)
    _settle(alive)
    for session in alive:
        silent = not session.agent.closed.done()
        session.give_up(EndReason.SUPERVISOR_SILENT if silent else EndReason.HOST_UNREACHABLE)


async def pass_on(context: RunContext, sessions: Sequence[HostSession], why: StopReason) -> None:
    """Have hosts stop for the reason that others did: a host that has died may not have told them."""
    await _ask(context, sessions, context.grace, why, attempt=context.state.attempt)


async def _listen(sessions: Sequence[HostSession]) -> None:
    """Follow supervisors that were started but not followed yet, to hear of their end."""
    for session in sessions:
        if session.phase is Phase.SUPERVISED:
            try:
                await session.follow(AFTER_GRACE)
            except HostError:
                pass  # the caller's wait reports it


def _all_over(sessions: Sequence[HostSession]) -> bool:
    return all(session.is_over or session.has_died for session in sessions)


def _settle(sessions: Sequence[HostSession]) -> None:
    """Count the run as over on hosts whose supervisors have died."""
    for session in sessions:
        if session.has_died:
            session.settle()


async def _ask(
    context: RunContext,
    sessions: Sequence[HostSession],
    grace: float,
    why: StopReason,
    attempt: int | None = None,
) -> None:
    async def one(session: HostSession) -> None:
        try:
            async with asyncio.timeout(AFTER_GRACE):
                await session.agent.ask(
                    "stop", run=context.name, grace=grace, why=why, attempt=attempt
                )
        except (TimeoutError, HostError):
            pass  # the caller's wait reports it

    await asyncio.gather(*(one(session) for session in sessions if not session.is_over))


async def let_go(context: RunContext, sessions: Sequence[HostSession]) -> None:
    """End what hosts have kept for another attempt, where none follows."""

    async def one(session: HostSession) -> None:
        session.keeps_warm = None
        try:
            async with asyncio.timeout(AFTER_GRACE):
                await session.agent.ask("stop", run=context.name, grace=0.0, why=StopReason.BY_USER)
        except (TimeoutError, HostError):
            pass  # it ends with the connection

    kept = [
        one for one in sessions if one.keeps_warm is not None and one.is_over and one.lost is None
    ]
    await asyncio.gather(*map(one, kept))


async def sweep(context: RunContext, sessions: Sequence[HostSession]) -> None:
    """Check all processes of every host once more, and kill those that carry the run's mark."""

    async def one(session: HostSession) -> None:
        host = session.name
        try:
            async with asyncio.timeout(AFTER_GRACE):
                found = await session.agent.answer(
                    Swept, "sweep", run=context.name, host=host, kill=True
                )
        except (TimeoutError, HostError):
            return  # the receipt says that it could not be verified
        context.add(
            ev.HostSwept(
                time=time.time(),
                host=host,
                left=tuple(to_json(one) for one in found.left),
                killed=found.killed,
                scanned=found.scanned,
                unreadable=found.unreadable,
            )
        )

    await asyncio.gather(*(one(session) for session in sessions if session.is_supervised))
