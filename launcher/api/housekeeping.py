"""Disk space that runs take, here and on hosts: measure it, and delete what is old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runner import housekeeping
from ..runner.housekeeping import CacheHere, Freed, Here, HostPlan, PrunePlan, RunHere, There
from ..spec.errors import HostError

if TYPE_CHECKING:
    from ..spec.model import Host, Inventory
    from .host_requests import AskPassphrase

__all__ = [
    "CacheHere",
    "Freed",
    "Here",
    "HostError",
    "HostPlan",
    "PrunePlan",
    "RunHere",
    "There",
    "measure",
    "plan_prune",
    "prune",
]


async def measure(
    inventory: Inventory | None, hosts: Sequence[Host], ask: AskPassphrase | None = None
) -> tuple[Here, There]:
    """Return what launcher's files take here and on these hosts, or why a host could not be asked."""
    here = await asyncio.to_thread(housekeeping.measure_here)
    there = await housekeeping.measure_there(inventory, hosts, ask) if inventory and hosts else {}
    return here, there


def plan_prune(
    here: Here,
    there: There,
    older: float,
    *,
    keep_outputs: bool = False,
    unknown: bool = False,
) -> PrunePlan:
    """Return what nothing has used for ``older`` seconds: runs that have ended, versions of code,
    environments, images that launcher brought, what this machine remembers of sources and builds
    unless a named data set or an active run needs it, and agents that no process uses, whatever
    their age.

    Runs whose hosts have files that were never brought back stay. With ``keep_outputs``, runs that
    have outputs here stay here; ``unknown`` adds runs on hosts that this machine has no record of.
    """
    return housekeeping.plan(
        here,
        there,
        time.time() - older,
        keep_outputs=keep_outputs,
        unknown=unknown,
        agent=housekeeping.current_agent(),
    )


async def prune(
    inventory: Inventory | None, plan: PrunePlan, ask: AskPassphrase | None = None
) -> Freed:
    """Delete what a plan names, on hosts and then here."""
    return await housekeeping.prune(inventory, plan, ask)
