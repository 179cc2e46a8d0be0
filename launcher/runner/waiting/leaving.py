"""Whether the hosts of a run can start it by themselves when its turn has come, with nobody in touch."""

from __future__ import annotations

from ..context import RunContext
from ..launch import Launch
from . import left_to_host, left_to_hosts, ways
from .membership import Membership
from .witnesses import Witnesses


async def is_possible(context: RunContext, membership: Membership, launch: Launch) -> bool:
    """Return whether the hosts of a launch can start it.

    They can if they would start what this launcher would, and those that may be chosen reach each other;
    and if enough of those that decide about its project reach the first one.
    """
    layout = launch.layout
    if layout.num_nodes == 1 and not layout.wanted and membership.rule is None:
        return left_to_host.is_possible(launch)
    if not left_to_hosts.is_possible(launch):
        return False
    if layout.wanted and not await ways.can_meet(launch):
        return False
    return membership.rule is None or await Witnesses(context, membership).can_decide(
        launch.sessions
    )
