"""Whether an elastic run can continue with the remaining hosts. Pure.

torchrun's store is on the head node, the first host of the layout: without it nothing continues. A
layout has no nodes before hosts are chosen.
"""

from __future__ import annotations

from ...records.state import RunState
from ...spec.model import Layout
from ...spec.process_key import ProcessKey


def gone(state: RunState, layout: Layout) -> frozenset[str]:
    """Return the hosts that the group has lost: unreachable, or their torchrun has failed."""
    failed = {
        p.host for p in state.processes.values() if p.rank is None and p.code not in (None, 0)
    }
    return frozenset({node.host.name for node in layout.nodes} & (failed | set(state.lost)))


def too_few(state: RunState, layout: Layout, least: int) -> bool:
    """Return whether the group cannot continue: it has lost its head node, or has fewer than
    ``least`` hosts."""
    if not layout.nodes:
        return False
    missing = gone(state, layout)
    return layout.nodes[0].host.name in missing or layout.num_nodes - len(missing) < least


def is_over(state: RunState, layout: Layout, least: int) -> bool:
    """Return whether the run is over: too few hosts remain, or the group has finished and all hosts
    have stopped or do not answer."""
    hosts = {node.host.name for node in layout.nodes}
    done = head_has_finished(state, layout) and hosts <= state.ended_hosts | set(state.silent)
    return done or too_few(state, layout, least)


def head_has_finished(state: RunState, layout: Layout) -> bool:
    """Return whether torchrun on the head node exited with 0: it does when the group has finished."""
    if not layout.nodes:
        return False
    head = state.processes.get((layout.nodes[0].host.name, str(ProcessKey.of_node(0))))
    return head is not None and head.code == 0


def finished_on(state: RunState, layout: Layout) -> int | None:
    """Return on how many hosts the group finished after it had lost others; else None."""
    missing = gone(state, layout)
    if not missing or state.failure or state.expired or not head_has_finished(state, layout):
        return None
    return layout.num_nodes - len(missing)
