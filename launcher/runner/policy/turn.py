"""Decide whose turn it is from what the hosts of a waiting run say. Pure.

The rule itself is that of :mod:`launcher.agent.supervisor.turns`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...agent.host.socket_names import short as short
from ...agent.supervisor import turns
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


@frozen
class Stand:
    """How things stand on a host: who holds its GPUs, and who waits for them. ``model`` is the only one
    of GPUs that counts, if there is one."""

    host: Host
    facts: Facts
    said: Turns
    model: str | None = None

    @property
    def gpus(self) -> tuple[int, ...]:
        """The GPUs of the host that runs take: whole ones, or MIG instances if there are no others."""
        there = usable(self.host, self.facts, (), self.model).indices
        return tuple(index for index in there if not is_mig(index)) or tuple(there)

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


def can_wait(job: Job) -> bool:
    """Return whether any GPUs of the hosts suffice for a job, so that it can wait for its turn."""
    return not job.roles and not job.resources.gpu_ids and job.resources.gpus != 0


def shares(job: Job, hosts: Sequence[Host], facts: Mapping[str, Facts]) -> tuple[int, ...]:
    """Return the GPUs of each node of a job on hosts that are idle. Raises PlanError."""
    idle = {name: replace(known, leased={}) for name, known in facts.items()}
    return shares_of(make_layout(job, hosts, idle))


def shares_of(layout: Layout) -> tuple[int, ...]:
    """Return the GPUs of each node that has some, the largest number first."""
    counts = (len(node.gpus) for node in layout.nodes)
    return tuple(sorted(filter(None, counts), reverse=True))


def decide(stands: Sequence[Stand], run: str = "", hosts: Iterable[str] = ()) -> list[Begin | Wait]:
    """Return what each waiting run may do, in the order of their turns.

    ``hosts`` are all those of ``run``, in sight or not.
    """
    known = {
        one.host.name: turns.Host(one.gpus, one.uses, last=foreign(one.facts)) for one in stands
    }
    return turns.decide(_tickets(stands, short(run), frozenset(hosts)), known)


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

    It may have two on a host for a while: the first counts. A run that may start again keeps its ticket
    while it runs, so that nobody takes its GPUs in between.
    """
    found: dict[str, dict[str, WaitingThere]] = {}
    for stand in stands:
        running = {short(holder.run) for holder in stand.said.leased.values() if holder.run}
        for ticket in sorted(stand.said.tickets, key=_key):
            if ticket.run not in running:
                found.setdefault(ticket.run, {}).setdefault(stand.host.name, ticket)
    return found


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


def _key(ticket: WaitingThere) -> tuple[int, int, str]:
    return (-ticket.priority, ticket.number, ticket.run)


def _tickets(
    stands: Sequence[Stand], own: str, candidates: frozenset[str]
) -> Iterable[turns.Ticket]:
    for run, there in waiting(stands).items():
        first = min(there.values(), key=_key)
        if first.aside and run != own:
            continue  # it can begin nowhere, as its own hosts say: it holds nobody back
        sizes = first.sizes
        hosts = candidates if run == own else frozenset(there)
        if run != own and len(there) < first.hosts:
            sizes = sizes[: len(there)]  # what it may need of those that are in sight
        yield turns.Ticket(
            run, first.number, sizes, hosts, priority=first.priority, seconds=first.seconds
        )


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


def with_gpus(layout: Layout, stands: Sequence[Stand], begin: Begin) -> Layout:
    """Return a layout with the same processes on the same hosts, and the GPUs that it may take now."""
    known = {one.host.name: usable(one.host, one.facts) for one in stands}

    def of(node: Node) -> Node:
        gpus = begin.gpus.get(node.host.name)
        if not gpus:
            return node
        names = known[node.host.name].names
        called = tuple(names.get(gpu, str(gpu)) for gpu in gpus)
        return replace(node, gpus=tuple(gpus), gpu_names=called)

    return replace(layout, nodes=tuple(map(of, layout.nodes)))
