"""The plan of a run whose hosts say which GPUs and ports it gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...jobs import planner
from ...spec.model import Layout, Meeting, Plan
from ..launch import Launch
from ..policy import turn
from .left_to_host import Choice, framework_of


def ports_of(launch: Launch) -> dict[str, int]:
    """Return how many ports each host has: the first one those of the master and of broadcasts, then
    come those of the processes."""
    counts = planner.ports_needed(launch.context.job, launch.layout)
    first = launch.layout.nodes[0].host.name
    return {**counts, first: counts.get(first, 0) + 1 + _broadcasts(launch)}


def _broadcasts(launch: Launch) -> bool:
    return launch.layout.num_nodes > 1 and not framework_of(launch).joins_hosts


def plan_of(launch: Launch, choices: Mapping[str, Choice], meeting: Meeting) -> Plan:
    """Return the plan of a run whose hosts have these GPUs and ports, or tokens for them."""
    nodes = tuple(
        turn.on_gpus(node, choices[node.host.name].gpus, choices[node.host.name].names)
        for node in launch.layout.nodes
    )
    layout = replace(launch.layout, nodes=nodes)
    return launch.plan(layout, _meeting(launch, layout, choices, meeting))


def _meeting(
    launch: Launch, layout: Layout, choices: Mapping[str, Choice], meeting: Meeting
) -> Meeting:
    first = layout.nodes[0].host.name
    ports = {host: list(one.ports) for host, one in choices.items()}
    master = ports[first].pop(0)
    news = ports[first].pop(0) if _broadcasts(launch) else None
    own = {host: tuple(some) for host, some in ports.items() if some}
    made = replace(meeting, master_port=master, news_port=news, ports=own)
    return planner.with_share_port(launch.context.job, layout, made)
