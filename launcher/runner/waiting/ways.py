"""The ways to run of a run that may choose among its hosts: one for each choice of them.

A run that needs all of its hosts has one way. See docs/decisions/0082-hosts-choose.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from math import comb

from ...spec import errors
from ...spec.frozen import frozen
from ...spec.model import Layout, Meeting
from ..launch import Launch
from ..policy.turn import MOST_WAYS as MOST_WAYS
from ..policy.turn import layouts_of
from ..rendezvous import alone, meet


@frozen
class Way:
    """One way to run: what would be started on some of the hosts, and where these meet."""

    launch: Launch
    meeting: Meeting


@frozen
class AnyWay:
    """All ways to run on any of some hosts. By the first host of those that are chosen, ``heads`` say
    where they meet, and ``alone`` where a single one does."""

    heads: Mapping[str, Meeting]
    alone: Mapping[str, Meeting]


def are_many(layout: Layout) -> bool:
    """Return whether a layout has too many ways to list, and any of its hosts would do."""
    return bool(layout.wanted and not layout.shares) and number_of_ways(layout) > MOST_WAYS


def number_of_ways(layout: Layout) -> int:
    """Return among how many layouts the hosts of a layout may choose; of more than are told, any number
    that is larger."""
    if layout.shares:
        return sum(1 for _ in islice(layouts_of(layout), MOST_WAYS + 1))
    sizes = range(layout.num_nodes, layout.largest.num_nodes + 1)
    return sum(comb(len(layout.nodes), size) for size in sizes)


def on(launch: Launch, layout: Layout) -> Launch:
    """Return what would be started on the hosts of another layout."""
    known = {session.name: session for session in launch.sessions}
    sessions = [known[node.host.name] for node in layout.nodes]
    return replace(launch, sessions=sessions, layout=layout)


async def find_ways(launch: Launch) -> tuple[Meeting, list[Way] | AnyWay]:
    """Return where the hosts of a launch meet while they wait, and the ways to run it: without those
    whose first host some of the others do not reach. Raises HostError; MeetingError if that is the first
    one of all."""
    job = launch.context.job
    meeting = await meet(job, launch.sessions)
    if not launch.layout.wanted:
        return meeting, [Way(launch, meeting)]
    names = [session.name for session in launch.sessions]
    heads: dict[str, Meeting | None] = {names[0]: meeting}
    if are_many(launch.layout):
        return meeting, await _find_any(launch, meeting)
    found: list[Way] = []
    for layout in layouts_of(launch.layout):
        one = on(launch, layout)
        first, *others = one.sessions
        if others and first.name not in heads:
            heads[first.name] = await _meet_if_all_do(launch, names.index(first.name))
        there = heads[first.name] if others else alone(job, first, 0)
        found += [Way(one, there)] if there else []
    return meeting, found


async def can_meet(launch: Launch) -> bool:
    """Return whether hosts that may be chosen can wait together: whether all reach each other."""
    try:
        _, ways = await find_ways(launch)
    except (errors.MeetingError, errors.HostError):
        return False
    if isinstance(ways, AnyWay):
        return len(ways.heads) == number_of_heads(launch.layout)
    return len(ways) == number_of_ways(launch.layout)


def number_of_heads(layout: Layout) -> int:
    """Return how many hosts of a layout can be the first of several that are chosen."""
    most = layout.largest.num_nodes
    return len(layout.nodes) + 1 - max(2, layout.num_nodes) if most > 1 else 0


async def _find_any(launch: Launch, meeting: Meeting) -> AnyWay:
    """Return all ways to run on any hosts of a launch, which meet there if its first one is chosen."""
    names, heads = [session.name for session in launch.sessions], {}
    for first in range(number_of_heads(launch.layout)):
        there = await _meet_if_all_do(launch, first) if first else meeting
        if there:
            heads[names[first]] = there
    single = launch.sessions if launch.layout.num_nodes == 1 else ()
    return AnyWay(heads, {one.name: alone(launch.context.job, one, 0) for one in single})


async def _meet_if_all_do(launch: Launch, first: int) -> Meeting | None:
    """Return where a host and all after it meet; None where some do not reach it."""
    try:
        return await meet(launch.context.job, launch.sessions[first:])
    except errors.MeetingError:
        return None
