"""What each project of an inventory has, as its hosts say."""

from __future__ import annotations

from ..spec.frozen import frozen
from ..spec.model import Inventory
from ..transport.ssh import AskPassphrase
from .policy import projects
from .waiting.membership import Desks


@frozen
class ProjectRun:
    """A run that uses GPUs in a project's name. ``counted``: its hosts cannot be asked, so it counts
    until they can. ``borrows``: its GPUs are beyond the quota."""

    run: str
    user: str
    gpus: int
    hosts: tuple[str, ...]
    preemptible: bool = False
    borrows: bool = False
    counted: bool = False


@frozen
class ProjectShare:
    """What a project may have and has: GPUs ``used``, those ``borrowed`` beyond its quota, its runs, and
    how many wait."""

    name: str
    quota: int
    limit: int | None
    users: tuple[str, ...]
    min_runtime: float
    used: int
    borrowed: int
    runs: tuple[ProjectRun, ...]
    waiting: int


async def ask(
    inventory: Inventory, ask: AskPassphrase | None = None
) -> tuple[tuple[ProjectShare, ...], tuple[str, ...]]:
    """Return what each project has, and the hosts that did not answer."""
    desks = Desks(inventory, ask)
    try:
        said = await desks.look()
    finally:
        await desks.close()
    rules = inventory.projects
    uses = projects.uses(rules, said, desks.deciding)
    borrowing = {use.run for use in projects.borrowing(rules, uses)}
    waiting = {
        (one.project, one.run)
        for there in said.values()
        for one in there.members
        if one.waits and any(r.name == one.project and one.user in r.users for r in rules)
    }
    shares = []
    for rule in rules:
        mine = [use for use in uses if use.project == rule.name]
        used = sum(use.gpus for use in mine)
        runs = tuple(
            ProjectRun(
                use.run,
                use.user,
                use.gpus,
                use.hosts,
                use.preemptible,
                use.run in borrowing,
                use.age is None,
            )
            for use in mine
        )
        shares.append(
            ProjectShare(
                rule.name,
                rule.quota,
                rule.limit,
                rule.users,
                rule.min_runtime,
                used,
                max(0, used - rule.quota),
                runs,
                sum(project == rule.name for project, _ in waiting),
            )
        )
    silent = tuple(host.name for host in inventory.on if host.name not in said)
    return tuple(shares), silent
