"""Errands to hosts for data sets, outside of any run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

from ...fleet.fanout import Visited, visit_hosts
from ...records import events as ev
from ...spec.data import DataSet
from ...spec.errors import HostError
from ...spec.frozen import frozen
from ...spec.model import Host as InventoryHost
from ...spec.model import Inventory, Node
from ...transport.agent_client import Agent
from ...transport.answers.data import (
    DataBegun,
    DataExamined,
    DataFreed,
    DataKept,
    DataSets,
    DataThere,
)
from ...transport.ssh import AskPassphrase
from ..concurrency import both, in_thread
from ..listeners import OnEvent, ignore_event
from ..reached import reached, reached_one
from . import whereabouts
from .delivery import BYTES_A_SECOND, PATIENCE
from .host import Delivered, Host
from .listing import Listed
from .passing import bring_all

__all__ = ["DataExamined", "DataFreed", "DataKept", "DataSets", "DataThere", "Place"]

T = TypeVar("T")


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

    async def push(
        self, data: DataSet, reading: Coroutine[Any, Any, Listed], on_event: OnEvent
    ) -> Mapping[str, int | HostError]:
        """Connect to all hosts while a source is read, and bring them the version that it has; return
        the bytes that travelled."""

        def told(host: str, percent: int) -> None:
            on_event(ev.SyncProgressed(time.time(), host, percent, listed.version.bytes))

        def told_alone(hosts: Sequence[str]) -> None:
            on_event(ev.DataNotPassed(time.time(), data.name, tuple(hosts)))

        async with AsyncExitStack() as stack:
            connecting = stack.enter_async_context(reached(self.inventory, self.hosts, self.ask))
            (there, failed), listed = await both(connecting, reading)
            done = {**failed, **await _having(there, listed)}
            seeds = [host for host in there if done.get(host.name) == 0]
            lacking = [host for host in there if host.name not in done]
            source = listed.there
            if lacking and source and all(host.name != source for host in there):
                seeds.append(await stack.enter_async_context(self.reach(source)))
            if lacking:
                one = Delivered(data, listed)
                done |= await bring_all(
                    lacking, one, told, told_alone, seeds=seeds, on_event=on_event
                )
        having = [name for name, sent in done.items() if not isinstance(sent, HostError)]
        await in_thread(whereabouts.note, data, having, listed.version)
        return {one.name: done[one.name] for one in self.hosts}

    def reach(self, name: str) -> AbstractAsyncContextManager[Host]:
        """Connect to a host of the inventory, one of these hosts or not."""
        return reached_one(self.inventory, name, self.ask)

    async def sets(self) -> Mapping[str, DataSets | HostError]:
        """Return the data sets of all hosts."""
        return await self._ask(DataSets, do="list")

    async def verify(
        self, version: str, size: int, on_event: OnEvent = ignore_event
    ) -> Mapping[str, DataExamined | HostError]:
        """Have all hosts read a version again; one that has changed becomes an incomplete copy.
        ``on_event`` gets CheckProgressed."""
        patience = PATIENCE + size / BYTES_A_SECOND

        async def do(visited: Visited, agent: Agent) -> DataExamined:
            def told(done: int) -> None:
                on_event(ev.CheckProgressed.so_far(time.time(), visited.host, done, size))

            agent.on_working = told
            request = {"do": "verify", "version": version}
            found = await agent.answer(DataExamined, "data", patience=patience, **request)
            told(size)
            return found

        return await self.each(do)

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


async def _having(hosts: Sequence[Host], listed: Listed) -> dict[str, int | HostError]:
    """Return 0 of hosts that have a version, which none of them removes before its agent ends, and the
    errors of others. The host that the source is on is not asked: it needs no copy."""

    async def ask(host: Host) -> bool | HostError:
        version = listed.version.version
        try:
            begun = await host.agent.answer(DataBegun, "data", do="have", version=version)
        except HostError as error:
            return error
        return begun.have

    asked = [host for host in hosts if host.name != listed.there]
    answered = zip(asked, await asyncio.gather(*map(ask, asked)), strict=True)
    return {host.name: 0 if had is True else had for host, had in answered if had is not False}
