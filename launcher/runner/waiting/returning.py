"""A run that may have to give its GPUs back: its hosts take it back into the queue by themselves.

While it runs they keep what they need for that, and those that decide about its project rest. See
docs/decisions/0090-back-in-the-queue.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from ...spec import errors
from ..concurrency import together
from ..context import RunContext
from ..host_session import HostSession
from ..launch import Launch
from ..policy.restart import PORT_TRIES
from . import left_to_hosts
from .place import Place
from .ways import find_ways
from .witnesses import Witnesses

#: Seconds between two looks whether witnesses are missing; and until hosts are told again that could not
#: be.
EVERY, AGAIN = 600.0, 60.0


class Returning:
    """Leaves with the hosts of a run what they need to wait again."""

    def __init__(self, context: RunContext, place: Place) -> None:
        self._context, self._place = context, place
        self._witnesses = Witnesses(context, place.membership)

    async def leave(self, launch: Launch) -> None:
        """Leave it with all hosts of a launch that has begun, and replace witnesses, until cancelled."""
        if not self._can_wait(launch):
            return
        launch, is_left = _settled(launch), False
        while True:
            is_left = is_left or await self._leave(launch)
            if is_left:
                await self._look_after(launch.sessions)
            await asyncio.sleep(EVERY if is_left else AGAIN)

    async def is_possible(self, launch: Launch) -> bool:
        """Return whether the hosts of a launch that is to follow can wait for it by themselves."""
        return self._can_wait(launch) and await self._witnesses.can_decide(launch.sessions)

    def _can_wait(self, launch: Launch) -> bool:
        return self._place.may_return and left_to_hosts.is_possible(_settled(launch))

    async def _leave(self, launch: Launch) -> bool:
        """Leave it there; return whether the hosts have it."""
        try:
            if not await self._witnesses.can_decide(launch.sessions):
                return False
            for _ in range(PORT_TRIES):
                with suppress(errors.PortTaken):
                    await self._tell(launch)
                    return True
        except (errors.MeetingError, errors.HostError):
            pass
        finally:
            await self._place.membership.close()  # nobody needs these connections while it runs
        return False

    async def _tell(self, launch: Launch) -> None:
        """Tell all hosts, the one that would lead first. Raises HostError, MeetingError."""
        meeting, ways = await find_ways(launch)
        key, more = secrets.token_hex(16), (self._place, self._witnesses)
        told = left_to_hosts.requests(launch, ways, meeting, key, *more, True)
        asked = {name: {**request, "op": "return"} for name, request in told.items()}
        first, *others = launch.sessions
        await first.insist(**asked[first.name])
        await together(one.insist(**asked[one.name]) for one in others)

    async def _look_after(self, sessions: Sequence[HostSession]) -> None:
        try:
            await self._witnesses.start(sessions)
        finally:
            await self._place.membership.close()


def _settled(launch: Launch) -> Launch:
    """Return a launch on the hosts that the run has, of those that it could choose."""
    return replace(launch, layout=replace(launch.layout, wanted=0))
