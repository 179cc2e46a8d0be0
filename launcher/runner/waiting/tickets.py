"""The tickets of a run: shown to hosts by its own connections, and renewed there.

They go with their connections, so that a run whose launcher is gone keeps nobody waiting. See
docs/decisions/0055-tickets.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...spec.errors import BadAnswer, HostError
from ...transport.answers.queue import Turns
from ..concurrency import cancel
from ..host_session import HostSession

#: A ticket for a host, by its name; None shows none there, and looks at those of others.
MadeFor = Callable[[str], Mapping[str, Any] | None]
#: Seconds that a host may take until it says that nothing has changed.
NEWS = 10.0
#: Seconds between two times that the ticket of a running run is renewed.
RENEW = 10.0
#: Seconds until a host that has dropped its connection is dialled.
PAUSE = 0.5
#: Seconds for a host to let go of what a waiting run has left there.
LEAVES = 10.0


class HeldTickets:
    """Shows what ``made_for`` returns. ``stands`` is what each host that answers has said of all tickets
    and GPUs there; ``changed`` is set when that may have changed."""

    def __init__(self, made_for: MadeFor) -> None:
        self.stands: dict[str, Turns] = {}
        self.changed = asyncio.Event()
        self._made_for = made_for
        self._holding: tuple[asyncio.Task[None], ...] = ()

    async def show(self, sessions: Sequence[HostSession]) -> HostError | None:
        """Show the tickets as they are now, and keep them there; return the error of a host that does
        not answer."""
        await self.close()
        self.stands = {}
        error = await self.look(sessions)
        self.keep(sessions)
        return error

    async def look(self, sessions: Sequence[HostSession]) -> HostError | None:
        """Look at all hosts; return the error of one that does not answer."""
        asked = (self._ask(one, 0.0) for one in sessions)
        found = await asyncio.gather(*asked, return_exceptions=True)
        for session, error in zip(sessions, found, strict=True):
            if isinstance(error, HostError):
                self.stands.pop(session.name, None)
            elif error is not None:
                raise error
        return next((error for error in found if isinstance(error, HostError)), None)

    def keep(self, sessions: Iterable[HostSession]) -> None:
        """Renew tickets and hear of changes, until they are closed."""
        self._holding = tuple(asyncio.ensure_future(self._keep(one)) for one in sessions)

    def renew(self, sessions: Iterable[HostSession]) -> None:
        """Renew tickets without hearing of changes, until they are closed."""
        self._holding = tuple(asyncio.ensure_future(self._renew(one)) for one in sessions)

    async def close(self) -> None:
        """Stop renewing; tickets go with their connections."""
        holding, self._holding = self._holding, ()
        await cancel(*holding)

    async def drop(self, sessions: Sequence[HostSession]) -> None:
        """Show no ticket any more."""
        await self.close()
        await take_away(sessions)
        self.stands = {}

    async def _ask(self, session: HostSession, wait: float) -> None:
        self.stands[session.name] = await session.turn(self._made_for(session.name), wait)
        self.changed.set()

    async def _keep(self, session: HostSession) -> None:
        while session.lost is None:
            try:
                await self._ask(session, NEWS)
            except HostError as error:
                self.stands.pop(session.name, None)
                self.changed.set()
                if isinstance(error, BadAnswer):
                    return  # nothing more of it is believed
                await asyncio.sleep(PAUSE)
                await session.until_back()

    async def _renew(self, session: HostSession) -> None:
        while session.lost is None:
            try:
                await session.turn(self._made_for(session.name), 0.0)
                await asyncio.sleep(RENEW)
            except BadAnswer:
                return
            except HostError:
                await asyncio.sleep(PAUSE)
                await session.until_back()


async def take_away(sessions: Iterable[HostSession]) -> None:
    """Show no ticket to these hosts, whoever shows others."""
    await asyncio.gather(*(_without_ticket(session) for session in sessions))


async def _without_ticket(session: HostSession) -> None:
    with suppress(HostError, TimeoutError):
        async with asyncio.timeout(LEAVES):
            await session.turn(None, 0.0)


async def forget(sessions: Iterable[HostSession], run: str) -> None:
    """Remove the code of a run from hosts where nothing of it was started."""
    await asyncio.gather(*(_remove(session, run) for session in sessions))


async def _remove(session: HostSession, run: str) -> None:
    with suppress(HostError, TimeoutError):
        async with asyncio.timeout(LEAVES):
            await session.agent.ask("remove", run=run)
