"""Connect to the hosts of a run, do one errand on each, and disconnect."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ..jobs import planner
from ..spec import errors
from ..spec.errors import HostError
from ..spec.frozen import frozen
from ..spec.model import Inventory, Layout, Node, Request
from ..transport.agent_client import Agent
from ..transport.connection import Connection
from ..transport.ssh import AskPassphrase, Dialler
from . import cleanup

T = TypeVar("T")
#: The most hosts to visit at once.
AT_ONCE = 32


@frozen
class Visited:
    """A host of a run, with a connection. ``folder`` is the run's folder there."""

    run: str
    node: Node
    connection: Connection
    folder: str

    @property
    def host(self) -> str:
        """The host's name."""
        return self.node.host.name

    @property
    def code(self) -> str:
        """The folder of the run's copy of the code."""
        return posixpath.join(self.folder, "code")

    async def agent(self) -> Agent:
        """Open an agent, and kill what unfinished runs left there. Raises HostError."""
        agent = await Agent.open(self.node.host, self.connection)
        try:
            await cleanup.finish(agent, self.host)
        except BaseException:
            await agent.close()
            raise
        return agent


async def visit(
    request: Request,
    layout: Layout,
    errand: Callable[[Visited], Awaitable[T]],
    nodes: Sequence[Node] = (),
) -> dict[str, T | HostError]:
    """Do an errand on every host of a run at once; return its result or its error by host.

    Leftovers of runs that could not reach a host at their end are killed there first.
    """
    chosen = nodes or layout.nodes
    ask = request.ask_passphrase
    return await visit_hosts(request.inventory, layout.run_id, chosen, errand, ask)


async def visit_hosts(
    inventory: Inventory,
    run: str,
    nodes: Sequence[Node],
    errand: Callable[[Visited], Awaitable[T]],
    ask: AskPassphrase | None = None,
) -> dict[str, T | HostError]:
    """Do the same on any hosts of an inventory; the run need not be recorded on this machine."""
    dialler = Dialler(inventory, ask)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(node: Node) -> T | HostError:
        async with gate:
            try:
                connection = await dialler.connect(node.host.name)
            except HostError as error:
                return error
            try:
                visited = Visited(run, node, connection, planner.run_dir(node.root, run))
                if cleanup.unfinished(visited.host):
                    await (await visited.agent()).close()
                return await errand(visited)
            except HostError as error:
                return error
            except OSError as error:
                return errors.ConnectionLost(node.host.name, str(error))
            finally:
                connection.close()

    try:
        found = await asyncio.gather(*(one(node) for node in nodes))
    finally:
        await dialler.close()
    return {node.host.name: result for node, result in zip(nodes, found, strict=True)}
