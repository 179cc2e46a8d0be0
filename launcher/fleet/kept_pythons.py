"""Ask hosts which Pythons they keep for the next run of this user, or have them end those."""

from __future__ import annotations

from ..spec.errors import HostError
from ..spec.model import Inventory, Node
from ..transport.answers.runs import Kept, KeptPython
from ..transport.ssh import AskPassphrase
from .fanout import Visited, visit_hosts

__all__ = ["Kept", "KeptPython", "ask_kept"]


async def ask_kept(
    inventory: Inventory, end: bool, ask: AskPassphrase | None
) -> dict[str, Kept | HostError]:
    """Return what every host of an inventory keeps, or why it could not be asked."""

    async def one(visited: Visited) -> Kept:
        agent = await visited.agent()
        try:
            return await agent.answer(Kept, "kept", end=int(end))
        finally:
            await agent.close()

    nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in inventory.on]
    return await visit_hosts(inventory, "", nodes, one, ask)
