"""Ask hosts about their GPUs: what they are, and who uses them now."""

from __future__ import annotations

from ..spec.errors import HostError
from ..spec.model import Facts, Inventory, Node
from ..transport.ssh import AskPassphrase
from .fanout import Visited, visit_hosts


async def ask_gpus(inventory: Inventory, ask: AskPassphrase | None) -> dict[str, Facts | HostError]:
    """Return the facts of every host of an inventory, or why the host could not be asked."""

    async def one(visited: Visited) -> Facts:
        agent = await visited.agent()
        try:
            return await agent.probe()
        finally:
            await agent.close()

    nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in inventory.on]
    return await visit_hosts(inventory, "", nodes, one, ask)
