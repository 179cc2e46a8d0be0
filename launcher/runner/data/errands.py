"""Errands to hosts for data sets, outside of any run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ...fleet.fanout import Visited, visit_hosts
from ...records import events as ev
from ...spec.errors import HostError
from ...spec.frozen import frozen
from ...spec.model import Host as InventoryHost
from ...spec.model import Inventory, Node
from ...transport.agent_client import Agent
from ...transport.answers import (
    DataExamined,
    DataFreed,
    DataKept,
    DataSets,
    DataThere,
)
from ...transport.ssh import AskPassphrase
from ..listeners import OnEvent
from .delivery import BYTES_A_SECOND, PATIENCE, bring
from .host import Delivered, Host

__all__ = ["DataExamined", "DataFreed", "DataKept", "DataSets", "DataThere", "Place"]

T = TypeVar("T")
#: Copies at once: each is an rsync here.
COPIES = 8


@frozen
class Place:
    """The hosts of an inventory to go to, and how to ask for passphrases."""

    inventory: Inventory
    hosts: Sequence[InventoryHost]
    ask: AskPassphrase | None = None

    async def each(
        self, do: Callable[[Visited, Agent], Awaitable[T]]
    ) -> Mapping[str, T | HostError]:
        """Do the same on every host at once; return its result or its error by host."""

        async def one(visited: Visited) -> T:
            agent = await visited.agent()
            try:
                return await do(visited, agent)
            finally:
                await agent.close()

        nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in self.hosts]
        return await visit_hosts(self.inventory, "", nodes, one, self.ask)

    async def _ask(
        self, kind: type[T], patience: float = 0.0, **request: Any
    ) -> Mapping[str, T | HostError]:
        async def do(visited: Visited, agent: Agent) -> T:
            return await agent.answer(kind, "data", patience=patience, **request)

        return await self.each(do)

    async def push(self, delivered: Delivered, on_event: OnEvent) -> Mapping[str, int | HostError]:
        """Bring a version to all hosts; return the bytes that travelled."""
        gate = asyncio.Semaphore(COPIES)

        def told(host: str, percent: int) -> None:
            size = delivered.listed.version.bytes
            on_event(ev.SyncProgressed(time.time(), host, percent, size))

        async def do(visited: Visited, agent: Agent) -> int:
            async with gate:
                host = Host(visited.host, agent, visited.connection)
                return await bring(host, delivered, partial(told, visited.host))

        return await self.each(do)

    async def sets(self) -> Mapping[str, DataSets | HostError]:
        """Return the data sets of all hosts."""
        return await self._ask(DataSets, do="list")

    async def verify(self, version: str, size: int) -> Mapping[str, DataExamined | HostError]:
        """Have all hosts read a version again; one that has changed becomes an incomplete copy."""
        patience = PATIENCE + size / BYTES_A_SECOND
        return await self._ask(DataExamined, patience=patience, do="verify", version=version)

    async def pin(self, version: str, on: bool) -> Mapping[str, DataKept | HostError]:
        """Let a version stay on all hosts, or no longer."""
        return await self._ask(DataKept, do="pin", version=version, on=on)

    async def remove(self, names: Sequence[str]) -> Mapping[str, DataFreed | HostError]:
        """Delete all versions of these names that nothing uses."""

        async def do(visited: Visited, agent: Agent) -> DataFreed:
            there = await agent.answer(DataSets, "data", do="list")
            versions = [one.version for one in there.sets if one.name in names]
            request = {"do": "remove", "versions": sorted(set(versions))}
            return await agent.answer(DataFreed, "data", patience=PATIENCE, **request)

        return await self.each(do)

    async def prune(self, keep: int) -> Mapping[str, DataFreed | HostError]:
        """Delete what was not used for longest, until ``keep`` bytes are left on each host."""
        return await self._ask(DataFreed, patience=PATIENCE, do="prune", keep=keep)
