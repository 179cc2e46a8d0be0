"""Whether a run goes on when torchrun can do with fewer hosts, and how it then ended. Pure.

Its store is on the first host of the plan, the lead, without which nothing goes on.
"""

from __future__ import annotations

from ...records.state import TOO_FEW, RunState
from ...spec.model import Layout
from ...spec.process_key import ProcessKey


def gone(state: RunState, layout: Layout) -> frozenset[str]:
    """Hosts that the group has lost: unreachable, or their torchrun has ended badly."""
    bad = {p.host for p in state.processes.values() if p.rank is None and p.code not in (None, 0)}
    return frozenset({node.host.name for node in layout.nodes} & (bad | set(state.lost)))


def too_few(state: RunState, layout: Layout, least: int) -> bool:
    """Whether the group cannot go on: without its lead, or with fewer than ``least`` hosts."""
    missing = gone(state, layout)
    return layout.nodes[0].host.name in missing or layout.num_nodes - len(missing) < least


def is_over(state: RunState, layout: Layout, least: int) -> bool:
    """Whether nothing is to be waited for: also when the others have come to the end without hosts
    that do not answer."""
    hosts = {node.host.name for node in layout.nodes}
    done = lead_is_done(state, layout) and hosts <= state.ended_hosts | set(state.silent)
    return done or too_few(state, layout, least)


def why_over(state: RunState, layout: Layout, least: int | None) -> str:
    """Why what goes on is ended, when neither the user nor a failure or a lease is the reason."""
    if state.lead_ended is not None:
        return "the lead has ended"
    if least and lead_is_done(state, layout):
        return "the group has finished"
    lost = too_few(state, layout, least) if least else bool(state.lost)
    return TOO_FEW if lost else "launcher gave up"


def lead_is_done(state: RunState, layout: Layout) -> bool:
    """Whether torchrun on the lead has ended well, which it does when the group has."""
    lead = state.processes.get((layout.nodes[0].host.name, str(ProcessKey.of_node(0))))
    return lead is not None and lead.code == 0


def succeeded(state: RunState, layout: Layout) -> str | None:
    """The reason of a run that came to its end with fewer hosts than it began with; None for any
    other."""
    missing = gone(state, layout)
    if not missing or state.failure or state.expired or not lead_is_done(state, layout):
        return None
    left = layout.num_nodes - len(missing)
    return f"finished-on-{left}-of-{layout.num_nodes}-hosts"
