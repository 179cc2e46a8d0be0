"""Decide whose turn it is from what the hosts of a waiting run say. Pure.

The rule itself is that of :mod:`launcher.agent.supervisor.turns`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from ...agent.host.socket_names import short as short
from ...agent.supervisor import stands as there
from ...agent.supervisor import turns
from ...agent.supervisor.turns import BUSY as BUSY
from ...agent.supervisor.turns import Begin as Begin
from ...agent.supervisor.turns import Wait as Wait
from ...jobs.gpus import foreign, usable
from ...jobs.layout import make_layout
from ...records.reasons import WaitReason
from ...spec.frozen import frozen
from ...spec.gpus import are_one, is_mig, name_of
from ...spec.model import OUTSIDE, Facts, Host, Job, Layout, Node
from ...transport.answers import Holder, Turns, WaitingThere

#: Of more programs outside launcher, the number.
FEW = 3


#: GPUs of a host that a ticket can name. Also in launcher.agent.host.tickets.
MOST_ONLY = 44


@frozen
class Stand:
    """How things stand on a host: who holds its GPUs, and who waits for them. ``model`` is the only one
    of GPUs that counts, if there is one. ``missing`` are hosts that do not reach this one, by the run that
    it leads and that lacks them."""

    host: Host
    facts: Facts
    said: Turns
    model: str | None = None
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[int, ...]:
        """The GPUs of the host that runs take."""
        return gpus_of(self.host, self.facts, self.model)

    @property
    def held(self) -> dict[int, Holder]:
        """Who holds GPUs now; without a run, they are used outside launcher."""
        outside = {
            gpu: Holder(holder.get("user") or None)
            for gpu, holder in self.facts.leased.items()
            if OUTSIDE in holder
        }
        return {**outside, **self.said.leased}

    @property
    def uses(self) -> tuple[turns.Use, ...]:
        """What uses these GPUs now."""
        held: dict[str, tuple[set[int], Holder]] = {}
        for index, holder in self.held.items():
            mine = {gpu for gpu in self.gpus if are_one(gpu, index)}
            held.setdefault(holder.run or "", (set(), holder))[0].update(mine)
        return tuple(turns.Use(run, gpus, one.left) for run, (gpus, one) in held.items() if gpus)

    @property
    def running(self) -> frozenset[str]:
        """The runs that hold GPUs of the host, as their tickets name them."""
        return frozenset(short(one.run) for one in self.said.leased.values() if one.run)


def gpus_of(host: Host, facts: Facts, model: str | None = None) -> tuple[int, ...]:
    """Return the GPUs of a host that runs take: whole ones, or MIG instances if there are no others."""
    there = usable(host, facts, (), model).indices
    return tuple(index for index in there if not is_mig(index)) or tuple(there)


def can_wait(job: Job) -> bool:
    """Return whether a job wants GPUs that it may have to wait for: ``wait`` is an option of its run."""
    if job.roles:
        return any(role.at(n).resources.gpus for role in job.roles for n in range(role.replicas))
    return job.resources.gpus != 0


def shares(job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[int, ...]:
    """Return the GPUs of each node of a job on hosts that are idle. Raises PlanError."""
    return shares_of(idle_layout(job, hosts, facts))


def idle_layout(
    job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts], run: str = ""
) -> Layout:
    """Return the layout of a job on hosts that are idle. Raises PlanError."""
    idle = {name: replace(known, leased={}, gpu_users=()) for name, known in facts.items()}
    return make_layout(job, hosts, idle, run)


def can_be_named(layout: Layout) -> bool:
    """Return whether a ticket can name the very GPUs of a layout: MIG instances have no place there."""
    return all(gpu < MOST_ONLY for node in layout.nodes for gpu in node.gpus)


def is_fixed(job: Job) -> bool:
    """Return whether a job waits for the very hosts of its idle layout: processes of roles, or GPUs that
    are named, cannot move to any others."""
    return bool(job.roles or job.resources.gpu_ids)


def parts_of(layout: Layout) -> dict[str, int]:
    """Return the GPUs that a layout needs of each host, where that is not the same everywhere: which
    host has which part is settled then."""
    parts = {node.host.name: len(node.gpus) for node in layout.nodes if node.gpus}
    return parts if len({*parts.values()}) > 1 else {}


def shares_of(layout: Layout) -> tuple[int, ...]:
    """Return the GPUs of each node that has some, the largest number first."""
    counts = (len(node.gpus) for node in layout.nodes[: layout.num_nodes])
    return tuple(sorted(filter(None, counts), reverse=True))


def decide(stands: Sequence[Stand], run: str = "", hosts: Iterable[str] = ()) -> list[Begin | Wait]:
    """Return what each waiting run may do, in the order of their turns.

    ``hosts`` are all those of ``run``, in sight or not.
    """
    return there.decide(seen(stands), short(run), hosts)


def seen(stands: Iterable[Stand]) -> list[there.Stand]:
    """Return how things stand as :mod:`launcher.agent.supervisor.stands` has it."""
    return [
        there.Stand(
            one.host.name,
            turns.Host(one.gpus, one.uses, last=foreign(one.facts)),
            one.said.tickets,
            one.running,
        )
        for one in stands
    ]


def of_run(answers: Iterable[Begin | Wait], run: str) -> Begin | Wait | None:
    """Return the answer to one run; None if it has no ticket."""
    return next((one for one in answers if one.name == short(run)), None)


def reason(answer: Wait, without_gpus: Collection[str]) -> WaitReason:
    """Return why a run waits. Those that it waits for may begin now, and so be ``without_gpus``."""
    why = WaitReason(answer.why)
    not_yet = answer.runs and all(run in without_gpus for run in answer.runs)
    return WaitReason.BEHIND if why is WaitReason.BUSY and not_yet else why


def waiting(stands: Sequence[Stand]) -> dict[str, dict[str, WaitingThere]]:
    """Return the tickets by run and host, where the run has no GPUs.

    See :func:`launcher.agent.supervisor.stands.waiting`.
    """
    return there.waiting((one.host.name, one.said.tickets, one.running) for one in stands)


def users(stands: Sequence[Stand]) -> dict[str, str]:
    """Return whose each run is that holds GPUs or waits, as far as the hosts know."""
    found: dict[str, str] = {}
    for stand in stands:
        for holder in stand.held.values():
            if holder.user:
                found[holder.run or ""] = str(holder.user)
        found.update((ticket.run, ticket.user) for ticket in stand.said.tickets)
    return found


def outside(stands: Sequence[Stand]) -> str:
    """Return what uses GPUs of these hosts outside launcher, and on which."""
    found: dict[str, list[str]] = {}
    for stand in stands:
        for gpu in stand.gpus:
            if what := stand.facts.leased.get(gpu, {}).get(OUTSIDE):
                found.setdefault(f"{stand.host.name} {what}", []).append(name_of(gpu))
    texts = []
    for what, gpus in found.items():
        host, _, by = what.partition(" ")
        texts.append(f"{host} GPU {','.join(gpus)} by {by}")
    more = [f"and {len(texts) - FEW} more"] if len(texts) > FEW else []
    return ", ".join([*texts[:FEW], *more])


def layout(job: Job, stands: Sequence[Stand], begin: Begin, run: str) -> Layout:
    """Return the layout of a run on the GPUs that it may take. Raises PlanError."""
    chosen = [one for one in stands if one.host.name in begin.gpus]
    facts = {}
    for one in chosen:
        others: dict[int, dict[str, Any]] = {
            gpu: {} for gpu in one.gpus if gpu not in begin.gpus[one.host.name]
        }
        facts[one.host.name] = replace(one.facts, leased=others, gpu_users=())
    return make_layout(job, [one.host for one in chosen], facts, run)


def layout_of_any(
    job: Job, stands: Sequence[Stand], shares: Sequence[int], run: str
) -> Layout | None:
    """Return the layout of a run on all hosts that it may choose among, where each would do for any of
    its equal ``shares``; None where it would be another run on others. Raises PlanError."""
    count, found = len(shares), dict[str, Node]()
    groups = []
    for start in range(0, len(stands), count):
        group = stands[min(start, len(stands) - count) :][:count]
        some = {one.host.name: list(one.gpus[: shares[0]]) for one in group}
        groups.append(layout(job, group, Begin(short(run), some), run))
        found.update((node.host.name, node) for node in groups[-1].nodes)
    if len(found) < len(stands):
        return None
    names = [one.host.name for one in stands]
    made = Layout(run, tuple(found[name] for name in names)).of(names, count)
    alike = all(made.of([node.host.name for node in one.nodes]) == one for one in groups)
    sizes = {node.local_world_size for node in made.nodes}
    return made if alike and len(sizes) == 1 else None


def provisional(job: Job, stand: Stand, shares: Sequence[int], run: str) -> Layout:
    """Return the layout of a run on its only host, with any GPUs: which ones, the host decides when its
    turn has come. Raises PlanError."""
    any_gpus = {stand.host.name: list(stand.gpus[: sum(shares)])}
    return layout(job, [stand], Begin(short(run), any_gpus), run)


def with_gpus(
    layout: Layout, facts: Mapping[str, Facts], gpus: Mapping[str, Sequence[int]]
) -> Layout:
    """Return a layout with the same processes on the same hosts, and the GPUs that it may take now."""

    def of(node: Node) -> Node:
        name = node.host.name
        if not gpus.get(name) or set(gpus[name]) == set(node.gpus) or not node.gpus:
            return node
        names = usable(node.host, facts[name]).names
        mine = tuple(gpus[name])[: len(node.gpus)]
        return on_gpus(node, mine, [names.get(gpu, str(gpu)) for gpu in mine])

    return replace(layout, nodes=tuple(map(of, layout.nodes)))


def fits(layout: Layout, gpus: Mapping[str, Sequence[int]]) -> bool:
    """Return whether each host of a layout may take as many GPUs as its processes have."""
    return all(len(gpus.get(node.host.name, ())) >= len(node.gpus) for node in layout.nodes)


def on_gpus(node: Node, gpus: Sequence[int], names: Sequence[str]) -> Node:
    """Return a node whose processes have these GPUs, which programs call by these names."""
    moved = dict(zip(node.gpus, gpus, strict=True))
    tasks = tuple(replace(task, gpus=tuple(moved[one] for one in task.gpus)) for task in node.tasks)
    return replace(node, gpus=tuple(gpus), gpu_names=tuple(names), tasks=tasks)
