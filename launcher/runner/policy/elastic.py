"""Whether an elastic run can continue with the hosts that are left. Pure.

torchrun's store is on the first host of the plan, the head node, without which nothing continues.
"""

from __future__ import annotations

from ...records.state import RunState
from ...spec.model import Layout
from ...spec.process_key import ProcessKey


def gone(state: RunState, layout: Layout) -> frozenset[str]:
    """Hosts that the group has lost: unreachable, or their torchrun has ended badly."""
    bad = {p.host for p in state.processes.values() if p.rank is None and p.code not in (None, 0)}
    return frozenset({node.host.name for node in layout.nodes} & (bad | set(state.lost)))


def too_few(state: RunState, layout: Layout, least: int) -> bool:
    """Whether the group cannot go on: without its head node, or with fewer than ``least`` hosts."""
    missing = gone(state, layout)
    return layout.nodes[0].host.name in missing or layout.num_nodes - len(missing) < least


def is_over(state: RunState, layout: Layout, least: int) -> bool:
    """Whether nothing is to be waited for: also when the others have come to the end without hosts
    that do not answer."""
    hosts = {node.host.name for node in layout.nodes}
    done = head_has_finished(state, layout) and hosts <= state.ended_hosts | set(state.silent)
    return done or too_few(state, layout, least)


def head_has_finished(state: RunState, layout: Layout) -> bool:
    """Whether torchrun on the head node exited with 0, which it does when the group has finished."""
    head = state.processes.get((layout.nodes[0].host.name, str(ProcessKey.of_node(0))))
    return head is not None and head.code == 0


def finished_on(state: RunState, layout: Layout) -> int | None:
    """On how many hosts the group finished, where others were lost before; else None."""
    missing = gone(state, layout)
    if not missing or state.failure or state.expired or not head_has_finished(state, layout):
        return None
    return layout.num_nodes - len(missing)
