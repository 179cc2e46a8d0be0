"""Decide whose turn it is from what the hosts of a waiting run say. Pure.

The rule itself is that of :mod:`launcher.agent.supervisor.turns`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from itertools import combinations, islice
from typing import Any

from ...agent.host.socket_names import short as short
from ...agent.supervisor import stands as there
from ...agent.supervisor import turns
from ...agent.supervisor.turns import BUSY as BUSY
from ...agent.supervisor.turns import SETTLE as SETTLE
from ...agent.supervisor.turns import Begin as Begin
from ...agent.supervisor.turns import Wait as Wait
from ...jobs.gpus import foreign, usable
from ...jobs.layout import make_layout, on_fewer
from ...records.reasons import WaitReason
from ...spec.frozen import frozen
from ...spec.gpus import are_one, is_mig, name_of
from ...spec.model import OUTSIDE, Facts, Host, Job, Layout, Node
from ...transport.answers.queue import Holder, Turns, WaitingThere

#: Of more programs outside launcher, the number.
FEW = 3


#: Most ways to run that are listed: hosts have a start request for each that they are part of.
MOST_WAYS = 256
#: Of ways to choose among hosts, how many are compared with what would be started there.
CHECKED = 16
#: GPUs of a host that a ticket can name. Also in launcher.agent.host.tickets.
MOST_ONLY = 44


@frozen
class Stand:
    """How things stand on a host: who holds its GPUs, and who waits for them. ``model`` is the only one
    of GPUs that counts, if there is one. ``missing`` are hosts that do not reach this one, by the run
    that it leads and that lacks them."""

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
    if layout.shares:
        return layout.shares
    counts = (len(node.gpus) for node in layout.nodes[: layout.num_nodes])
    return tuple(sorted(filter(None, counts), reverse=True))


def decide(
    stands: Sequence[Stand],
    run: str = "",
    hosts: Iterable[str] = (),
    sizes: Sequence[int] = (),
    within: bool = True,
) -> list[Begin | Wait]:
    """Return what each waiting run may do, in the order of their turns.

    ``hosts`` are all those of ``run``, in sight or not; ``sizes`` and ``within`` what it asks for. See
    :func:`launcher.agent.supervisor.stands.decide`.
    """
    return there.decide(seen(stands), short(run), hosts, sizes, within)


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
    job = on_fewer(job, len(begin.gpus)) if job.elastic else job
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


def layout_of_any_unequal(
    job: Job, stands: Sequence[Stand], shares: Sequence[int], run: str
) -> Layout | None:
    """Return the layout of a run on all hosts that it may choose among for its ``shares``, which are not
    equal; None where it would be another run on others. Raises PlanError."""
    shares = tuple(sorted(shares, reverse=True))
    room = {one.host.name: len(one.gpus) for one in stands if len(one.gpus) >= shares[-1]}
    wanted = {name: next(share for share in shares if share <= size) for name, size in room.items()}
    found = dict[str, Node]()
    every = list(islice(_assigned(shares, room), MOST_WAYS + 1))
    real = [_on_parts(job, stands, parts, run) for parts in every[:CHECKED]]
    for name in room:
        parts = next((one for one in every if one.get(name) == wanted[name]), None)
        if parts is None:  # there are more ways than hosts are told of
            return None
        nodes = _on_parts(job, stands, parts, run).nodes
        found.update((node.host.name, node) for node in nodes if node.host.name == name)
    if len(found) < len(room):
        return None
    made = Layout(run, tuple(found[name] for name in room)).of(room, len(shares))
    made = replace(made, shares=shares)
    alike = all(with_parts(made, parts) == one for parts, one in zip(every, real, strict=False))
    return made if alike else None


def _on_parts(job: Job, stands: Sequence[Stand], parts: Mapping[str, int], run: str) -> Layout:
    """Return the layout of a run on so many GPUs of each of these hosts. Raises PlanError."""
    group = [one for one in stands if one.host.name in parts]
    gpus = {one.host.name: list(one.gpus[: parts[one.host.name]]) for one in group}
    return layout(job, group, Begin(short(run), gpus), run)


def layouts_of(layout: Layout) -> Iterator[Layout]:
    """Yield those that the hosts of a layout may choose among, those of most hosts first; the layout
    itself if they may not."""
    names = [node.host.name for node in layout.nodes]
    if not layout.wanted:
        yield layout
    elif not layout.shares:
        for count in range(layout.largest.wanted, layout.wanted - 1, -1):
            for hosts in combinations(names, count):
                yield layout.of(hosts)
    else:
        for parts in _assigned(
            layout.shares, {one.host.name: len(one.gpus) for one in layout.nodes}
        ):
            yield with_parts(layout, parts)


def with_parts(layout: Layout, parts: Mapping[str, int]) -> Layout:
    """Return a layout on some of its hosts, with so many GPUs of each."""
    cut = replace(layout, nodes=tuple(_cut(node, parts) for node in layout.nodes))
    return cut.of(parts)


def _cut(node: Node, parts: Mapping[str, int]) -> Node:
    count = parts.get(node.host.name, len(node.gpus))
    ranks = count if node.local_world_size == len(node.gpus) else node.local_world_size
    gpus, names = node.gpus[:count], node.gpu_names[:count]
    return replace(node, gpus=gpus, gpu_names=names, local_world_size=ranks)


def _assigned(shares: Sequence[int], room: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield each way to give every share, the largest first, a host of its own that has room for it."""
    if not shares:
        yield {}
        return
    count = shares.count(shares[0])
    able = [host for host, size in room.items() if size >= shares[0]]
    for hosts in combinations(able, count):
        left = {host: size for host, size in room.items() if host not in hosts}
        for others in _assigned(shares[count:], left):
            yield {**dict.fromkeys(hosts, shares[0]), **others}


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
