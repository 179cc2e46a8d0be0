"""Hosts with a connection each, for an errand that needs them all at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from ..fleet import cleanup
from ..spec import errors
from ..spec.errors import HostError
from ..spec.frozen import frozen
from ..spec.model import Host as InventoryHost
from ..spec.model import Inventory
from ..transport.agent_client import Agent
from ..transport.connection import Connection
from ..transport.ssh import AskPassphrase, Dialler
from .concurrency import together

#: Hosts to connect to at once.
AT_ONCE = 32


class Connected(Protocol):
    """A host with a connection that is open: :class:`Host`, or that of a run."""

    @property
    def name(self) -> str: ...
    @property
    def agent(self) -> Agent: ...
    @property
    def connection(self) -> Connection: ...


@frozen
class Host:
    """A host for an errand, with a connection that is open."""

    name: str
    agent: Agent
    connection: Connection


@asynccontextmanager
async def reached_one(
    inventory: Inventory, name: str, ask: AskPassphrase | None = None
) -> AsyncIterator[Host]:
    """Connect to one host of an inventory. Raises InputError if it is not there, HostError."""
    known = {one.name: one for one in inventory.hosts}
    if name not in known:
        raise errors.InputError(
            f"no host of the inventory is called {name}", errors.suggestion(name, list(known))
        )
    async with reached(inventory, [known[name]], ask) as (there, failed):
        if failed:
            raise failed[name]
        yield there[0]


@asynccontextmanager
async def reached(
    inventory: Inventory, hosts: Sequence[InventoryHost], ask: AskPassphrase | None = None
) -> AsyncIterator[tuple[list[Host], dict[str, HostError]]]:
    """Connect to hosts; give those that answer, and the errors of the others by host.

    What unfinished runs have left there is killed first.
    """
    dialler, failed = Dialler(inventory, ask), dict[str, HostError]()
    there: dict[str, Host] = {}

    async def open_one(one: InventoryHost) -> None:
        try:
            connection = await dialler.connect(one.name)
            agent = await Agent.open(one, connection)
            there[one.name] = Host(one.name, agent, connection)
            await cleanup.finish(agent, one.name)
        except HostError as error:
            failed[one.name] = error
        except OSError as error:
            failed[one.name] = errors.ConnectionLost(one.name, str(error))

    try:
        await together((open_one(one) for one in hosts), limit=AT_ONCE)
        usable = [one.name for one in hosts if one.name in there and one.name not in failed]
        yield [there[name] for name in usable], failed
    finally:
        for host in there.values():
            await host.agent.close()
            host.connection.close()
        await dialler.close()
