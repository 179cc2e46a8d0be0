"""After a run: clean up hosts that could not be reached at its end, and delete its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..fleet.cleanup import unfinished
from ..fleet.fanout import Visited, visit
from ..records.receipt import Because, NotBrought, Receipt
from ..records.record_files import read_as
from ..spec.errors import AgentError, HostError
from ..spec.model import Layout, Node, Request
from ..transport.answers.runs import Standing
from .concurrency import in_thread
from .files import outputs, seeding
from .files.also import asked_for
from .files.choice import Choice
from .policy import spares
from .waiting import membership


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


async def forget(
    request: Request, layout: Layout, receipt: Receipt | None, force: bool = False
) -> list[HostError]:
    """Delete the run's folder on all its hosts; return the errors of hosts where it remains.

    Without a receipt nobody knows that it has ended: unless ``force`` is set, it is deleted only if no
    host says that it goes on there, and all answer. One that gave its GPUs back may wait again on some
    while another has just rebooted.

    Hosts that were lost and replaced are included: they may be back. On all hosts of the inventory that
    answer, a run with a project may have witnesses and books.
    """
    nodes = {node.host.name: node for node in layout.nodes}
    if receipt is None and nodes and not force:
        found = await visit(request, layout, _require_over)
        if going_on := [error for error in found.values() if error is not None]:
            return going_on
    names = [host.host for host in receipt.hosts if host.host not in nodes] if receipt else []
    others = [Node(request.inventory.host(name), 0, 0, 0) for name in names]
    errors = await _visit(request, layout, [*nodes.values(), *others], remove=True)
    await membership.forget(request, layout.run_id, books=not errors)
    return errors


async def _require_over(visited: Visited) -> None:
    """Raise HostError if the run goes on on a host."""
    agent = await visited.agent()
    try:
        if (await agent.answer(Standing, "alive", run=visited.run)).alive:
            why = "the run is still running there"
            raise AgentError(visited.host, why, f"stop it: launcher stop {visited.run}")
    finally:
        await agent.close()


async def left_there(request: Request, layout: Layout, run: Path) -> tuple[NotBrought, ...]:
    """Return what hosts have of a run that its folder here has not. Hosts that do not answer, and those
    that were lost and replaced, are not asked."""
    choice = Choice.of(request.job, asked_for(run))
    given = read_as(dict[str, dict[str, spares.State]], run / seeding.NOTE) or {}

    async def one(visited: Visited) -> list[NotBrought]:
        agent = await visited.agent()
        try:
            what = await outputs.listed(agent, visited.run, choice, compare=True)
        finally:
            await agent.close()
        mirror = run / ".hosts" / visited.host / "outputs"
        own = seeding.own(what, given.get(visited.host, {}))
        files, size = await in_thread(outputs.not_here, own, mirror)
        files, size = files + what.kept[0], size + what.kept[1]
        missing = [NotBrought(visited.host, "", files, size, Because.MISSING)] if files else []
        return missing + [
            NotBrought(visited.host, w.path, w.files, w.bytes, Because.OUTSIDE)
            for w in what.written
        ]

    if not layout.nodes:
        return ()
    found = await visit(request, layout, one)
    lists = (left for left in found.values() if not isinstance(left, HostError))
    return tuple(one for left in lists for one in left)


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
