"""After a run: clean up hosts that could not be reached at its end, and delete its files."""

from __future__ import annotations

from collections.abc import Sequence

from ..fleet.cleanup import unfinished
from ..fleet.fanout import Visited, visit
from ..records.receipt import Receipt
from ..spec.errors import HostError
from ..spec.model import Layout, Node, Request


async def finish(request: Request, layout: Layout) -> list[HostError]:
    """Stop what a run left on hosts that were unreachable when it ended, and correct its receipt.

    Return the errors of hosts that are still unreachable.
    """
    # A host that was lost and replaced is no longer a node.
    nodes = [
        Node(host, 0, 0, 0, root=host.workdir)
        for host in request.inventory.hosts
        if layout.run_id in unfinished(host.name)
    ]
    return await _visit(request, layout, nodes)


async def forget(request: Request, layout: Layout, receipt: Receipt | None) -> list[HostError]:
    """Delete the run's folder on all its hosts; return the errors of hosts where it remains.

    Hosts that were lost and replaced are included: they may be back.
    """
    nodes = {node.host.name: node for node in layout.nodes}
    names = [host.host for host in receipt.hosts if host.host not in nodes] if receipt else []
    others = [Node(request.inventory.host(name), 0, 0, 0) for name in names]
    return await _visit(request, layout, [*nodes.values(), *others], remove=True)


async def _visit(
    request: Request, layout: Layout, nodes: Sequence[Node], remove: bool = False
) -> list[HostError]:
    async def one(visited: Visited) -> None:
        agent = await visited.agent()  # stops what unfinished runs have left
        try:
            if remove:
                await agent.ask("remove", run=visited.run)
        finally:
            await agent.close()

    found = await visit(request, layout, one, nodes) if nodes else {}
    return [error for error in found.values() if error is not None]
