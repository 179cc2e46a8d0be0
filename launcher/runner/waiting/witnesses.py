"""The witnesses of a run with a project that its hosts start: all other hosts that answer.

A quota is decided on more than half of the inventory's hosts. Those that the run waits on may be fewer:
so the others take part in the decision, over lines to the host that leads. See
docs/decisions/0086-witnesses.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ...jobs import planner
from ...spec.addresses import is_address
from ...spec.errors import HostError
from ...spec.model import Job, Meeting
from ...transport.answers.network import Listening, Reached
from ..context import RunContext
from ..host_session import HostSession
from ..rendezvous import PATIENCE
from .membership import Membership

#: Seconds between two looks whether witnesses are missing.
EVERY = 3.0


def addresses_of(job: Job, session: HostSession) -> list[str]:
    """Return the addresses at which others may reach a host, best first."""
    found = planner.master_candidates(job, session.host, session.facts, alone=False)
    own = [ip for _, ip in session.facts.addresses]
    return [one for one in dict.fromkeys([*found, *own]) if is_address(one)]


class Witnesses:
    """Finds, starts and replaces them. A run without a project has none."""

    def __init__(self, context: RunContext, membership: Membership) -> None:
        self._context, self._membership = context, membership
        self._reached: dict[str, str] = {}  # where a host reaches the first one of the run

    async def can_decide(self, sessions: Sequence[HostSession]) -> bool:
        """Return whether enough hosts reach the first of these to decide about the run's project."""
        if self._membership.rule is None:
            return True
        first, others = sessions[0], self._others(sessions)
        token, places = secrets.token_hex(16), self.addresses_of(first)
        try:
            listening = await first.agent.answer(
                Listening,
                "listen",
                ports=list(self._context.job.master_port),
                token=token,
                more=0,
                news=False,
            )
            try:
                tries = (self._try(one, places, listening.port, token) for one in others)
                found = await asyncio.gather(*tries)
            finally:
                await first.agent.ask("unlisten")
        except HostError:
            return False
        self._reached = {name: at for name, at in zip(others, found, strict=True) if at}
        return self._membership.suffice([*self._reached, *(one.name for one in sessions)])

    def addresses_of(self, first: HostSession) -> list[str]:
        """Return the addresses at which others may reach a host, best first."""
        return addresses_of(self._context.job, first)

    def of_gang(self, sessions: Sequence[HostSession], meeting: Meeting) -> dict[str, Any]:
        """Return what the hosts of a run, and their witnesses, are told of each other."""
        first = sessions[0]
        hosts = [*(session.name for session in sessions), *self._others(sessions)]
        places = self.addresses_of(first)
        if len(sessions) > 1:
            places = list(dict.fromkeys([meeting.address_of(first.host), *places]))
        users = {user for rule in self._membership.rules.values() for user in rule["users"]}
        found: dict[str, Any] = {"hosts": hosts, "addresses": places, "users": sorted(users)}
        if self._context.request.preemptible:  # another host may lead later
            found["places"] = {one.name: self.addresses_of(one) for one in sessions}
        return found

    async def keep(self, sessions: Sequence[HostSession]) -> None:
        """Start the witnesses that are missing, now and later, until this is cancelled."""
        while self._membership.rule is not None:
            await self.start(sessions)
            await asyncio.sleep(EVERY)

    async def start(self, sessions: Sequence[HostSession]) -> None:
        """Start the witnesses that are missing now."""
        with suppress(HostError):
            await self._start_missing(sessions)

    async def _start_missing(self, sessions: Sequence[HostSession]) -> None:
        """Ask the host that leads who is missing, and start a witness on each of these that answers."""
        said = await self._of_leader(sessions)
        gang, missing = said.get("gang"), said.get("missing")
        if isinstance(gang, dict) and isinstance(missing, list):
            self._membership.missing = tuple(one for one in self._known if one in missing)
            names = [name for name in self._others(sessions) if name in missing]
            await asyncio.gather(*(self._start(name, gang) for name in names))

    async def _of_leader(self, sessions: Sequence[HostSession]) -> dict[str, Any]:
        """Return what the host says that leads; nothing where none does. Raises HostError."""
        first, *others = sessions
        if not self._context.state.succeeds:
            return await first.agent.ask("gang", run=self._context.name)
        for session in (first, *others):
            with suppress(HostError):
                if session.is_in_reach:
                    said = await session.agent.ask("gang", run=self._context.name)
                    if said.get("leads") == session.name:
                        return said
        return {}

    async def _start(self, name: str, gang: dict[str, Any]) -> None:
        if at := self._reached.get(name):
            places = [place for place in gang.get("addresses") or [] if place != at]
            gang = {**gang, "address": at, "addresses": [at, *places]}
        with suppress(HostError, OSError, TimeoutError):
            agent = await self._membership.desks.agent(name)
            await agent.ask("witness", run=self._context.name, host=name, gang=gang)

    async def _try(self, name: str, places: Sequence[str], port: int, token: str) -> str:
        """Return the address at which a host reaches the first one; empty where there is none."""
        with suppress(HostError, OSError, TimeoutError):
            agent = await self._membership.desks.agent(name)
            tried = await agent.answer(
                dict[str, Reached],
                "connect",
                addresses=list(places),
                port=port,
                token=token,
                seconds=PATIENCE,
            )
            return next((place for place in places if place in tried and tried[place].ok), "")
        return ""

    @property
    def _known(self) -> list[str]:
        """All hosts that decide, also those that are off."""
        return list(self._membership.desks.deciding)

    def _others(self, sessions: Sequence[HostSession]) -> list[str]:
        own = {session.name for session in sessions}
        return [name for name in self._membership.desks.everybody if name not in own]
