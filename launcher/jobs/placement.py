"""Place the processes of roles on hosts by GPUs, cores and memory: packed, or spread on request.

The search is a heuristic: it tries a few orders, large processes first, so it may refuse a set that
could be placed by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ..spec.errors import PlanError, suggestion
from ..spec.frozen import frozen
from ..spec.model import Role, Share, Task

#: The most hosts that an error lists one by one.
LISTED = 8


@frozen
class Capacity:
    """What one host offers; None: unknown, assumed to be enough."""

    host: str
    gpus: tuple[int, ...] = ()
    cpus: int | None = None
    memory: int | None = None
    unable: frozenset[str] = frozenset()  # roles that cannot run there


@frozen
class Demand:
    """A process to place."""

    role: str
    index: int
    share: Share
    spread: bool
    host: str | None = None

    @property
    def name(self) -> str:
        """``worker-2``, the name of its log."""
        return f"{self.role}-{self.index}"


@frozen
class Placed:
    """A host with its processes, in the order of their ranks."""

    host: str
    tasks: tuple[Task, ...]


def place(
    roles: Sequence[Role],
    capacities: Sequence[Capacity],
    count: int | None = None,
    own_ranks: bool = False,
    first: Collection[str] = (),
) -> tuple[Placed, ...]:
    """Return the hosts to use: the first process's host first, the others in the given order.

    The roles in ``first`` come first, then primary roles. Exactly ``count`` hosts are used if that is
    given: those that roles name, and else the largest ones. With ``own_ranks`` each process starts one
    rank per GPU itself. Raises PlanError when the roles do not fit.
    """
    ordered = sorted(roles, key=lambda role: (role.name not in first, not role.primary))
    _check_hosts(ordered, capacities)
    useless = {one.host for one in capacities if len(one.unable) == len(roles)}
    open_hosts = _largest(capacities, count, {role.host for role in roles}, useless)
    homes = _homes(_demands(ordered), open_hosts)
    if homes is None:
        raise _no_place(ordered, open_hosts)
    if count and len(set(homes.values())) < count:
        apart = [replace(demand, spread=True) for demand in _demands(ordered)]
        homes = _homes(apart, open_hosts)
        if homes is None or len(set(homes.values())) < count:
            raise _not_on_so_many(ordered, count)
    return _numbered(ordered, homes, open_hosts, own_ranks)


def _demands(roles: Sequence[Role]) -> list[Demand]:
    return [
        Demand(role.name, index, role.at(index).resources, role.spread, role.host)
        for role in roles
        for index in range(role.replicas)
    ]


def _largest(
    capacities: Sequence[Capacity],
    most: int | None,
    named: Collection[str | None],
    useless: Collection[str],
) -> list[Capacity]:
    sized = sorted(
        capacities,
        key=lambda r: (
            r.host in named,
            r.host not in useless,
            len(r.gpus),
            r.memory or 0,
            r.cpus or 0,
        ),
        reverse=True,
    )
    chosen = {capacity.host for capacity in sized[:most]}
    return [capacity for capacity in capacities if capacity.host in chosen]


# -- choosing hosts


_Homes = dict[tuple[str, int], int]  # (role, index) -> number of the host
_ORDERS = (
    lambda w: (w.share.gpus, w.share.memory or 0, w.share.cpus or 0),
    lambda w: (w.share.memory or 0, w.share.gpus, w.share.cpus or 0),
    lambda w: (w.share.cpus or 0, w.share.gpus, w.share.memory or 0),
)


def _homes(demands: Sequence[Demand], capacities: Sequence[Capacity]) -> _Homes | None:
    """Try the orders, large processes first; return the first complete placement, or None."""
    for size in _ORDERS:
        homes = _try(sorted(demands, key=size, reverse=True), capacities)
        if len(homes) == len(demands):
            return homes
    return None


def _try(demands: Sequence[Demand], capacities: Sequence[Capacity]) -> _Homes:
    left = [Share(len(capacity.gpus), capacity.cpus, capacity.memory) for capacity in capacities]
    homes: _Homes = {}
    to_come = sum(demand.share.gpus for demand in demands)
    apart = frozenset(demand.role for demand in demands if demand.spread)
    for demand in sorted(demands, key=lambda demand: demand.host is None):
        fitting = [
            n
            for n, free in enumerate(left)
            if _fits(demand.share, free)
            and demand.host in (None, capacities[n].host)
            and demand.role not in capacities[n].unable
        ]
        if not fitting:
            return homes
        best = min(fitting, key=lambda n: _cost(n, demand, left[n], homes, to_come, apart))
        homes[demand.role, demand.index] = best
        left[best] = _minus(left[best], demand.share)
        to_come -= demand.share.gpus
    return homes


def _fits(share: Share, free: Share) -> bool:
    return (
        share.gpus <= free.gpus
        and (share.cpus is None or free.cpus is None or share.cpus <= free.cpus)
        and (share.memory is None or free.memory is None or share.memory <= free.memory)
    )


def _minus(free: Share, share: Share) -> Share:
    cpus = None if free.cpus is None else free.cpus - (share.cpus or 0)
    memory = None if free.memory is None else free.memory - (share.memory or 0)
    return Share(free.gpus - share.gpus, cpus, memory)


def _cost(
    host: int,
    demand: Demand,
    free: Share,
    homes: _Homes,
    to_come: int,
    apart: frozenset[str],
) -> tuple[int, int, bool, int, int]:
    """Return the cost of placing a demand on a host, given by its number: less is better.

    Prefer few processes of the same role if it is spread, then few of other roles in ``apart``, then a
    host already in use, then the smallest host for all GPUs still to place, else the largest. CPU
    processes avoid GPU hosts.
    """
    there = [role for (role, _), home in homes.items() if home == host]
    alike = there.count(demand.role) if demand.spread else 0
    others = sum(role in apart for role in there) - alike if demand.spread else 0
    used = host in homes.values()
    if used or not demand.share.gpus:
        gpus = free.gpus
    else:
        gpus = free.gpus if free.gpus >= to_come else 1_000_000 - free.gpus
    return (alike, others, not used, gpus, host)


# -- numbering ranks


def _numbered(
    roles: Sequence[Role], homes: _Homes, capacities: Sequence[Capacity], own_ranks: bool
) -> tuple[Placed, ...]:
    first = homes[roles[0].name, 0]
    used = sorted(set(homes.values()), key=lambda number: (number != first, number))
    homes = _in_order(roles, homes, used)
    found = []
    rank = 0
    for number in used:
        free = list(capacities[number].gpus)
        tasks = []
        for role in roles:
            for index in range(role.replicas):
                if homes[role.name, index] != number:
                    continue
                count = role.at(index).resources.gpus
                size = max(1, count) if own_ranks else 1
                tasks.append(Task(role.name, index, rank, size, tuple(free[:count])))
                free = free[count:]
                rank += size
        found.append(Placed(capacities[number].host, tuple(tasks)))
    return tuple(found)


def _in_order(roles: Sequence[Role], homes: _Homes, used: Sequence[int]) -> _Homes:
    """Swap processes with equal demands, so that their indices rise along the hosts."""
    ordered = dict(homes)
    for role in roles:
        groups: dict[Share, list[int]] = {}
        for index in range(role.replicas):
            groups.setdefault(role.at(index).resources, []).append(index)
        for group in groups.values():
            keys = [(role.name, index) for index in group]
            rising = sorted((homes[key] for key in keys), key=used.index)
            ordered.update(zip(keys, rising, strict=True))
    return ordered


# -- explaining a refusal


def _check_hosts(roles: Sequence[Role], capacities: Sequence[Capacity]) -> None:
    names = [capacity.host for capacity in capacities]
    for role in roles:
        if role.host is not None and role.host not in names:
            listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
            raise PlanError(
                f"roles: {role.name}: host: {role.host} is none of the hosts ({listed})",
                suggestion(role.host, names) or "name a host that --hosts and the inventory have",
            )


def _not_on_so_many(roles: Sequence[Role], count: int) -> PlanError:
    total = sum(role.replicas for role in roles)
    if total < count:
        hint = f"--nodes {total}, or more replicas:"
        return PlanError(f"--nodes {count}: {total} processes cannot be on {count} hosts", hint)
    return PlanError(
        f"--nodes {count}: {_all(roles)} cannot be on {count} hosts",
        "leave out --nodes, or host: of a role",
    )


def _no_place(roles: Sequence[Role], capacities: Sequence[Capacity]) -> PlanError:
    demands = _demands(roles)
    for demand in demands:
        if not any(_fits(demand.share, _whole(capacity)) for capacity in capacities):
            return PlanError(
                f"{demand.name} ({in_words(demand.share)}) fits on no host: {_have(capacities)}",
                "lower resources: of its role, or add hosts",
            )
    return PlanError(
        f"{_all(roles)} do not fit: {_have(capacities)}",
        _what_would_fit(roles, capacities) or "add hosts",
    )


def _whole(capacity: Capacity) -> Share:
    return Share(len(capacity.gpus), capacity.cpus, capacity.memory)


def _all(roles: Sequence[Role]) -> str:
    return ", ".join(f"{role.replicas} {role.name} ({in_words(role.resources)})" for role in roles)


def _have(capacities: Sequence[Capacity]) -> str:
    listed = [
        f"{capacity.host} has {in_words(_whole(capacity))}" for capacity in capacities[:LISTED]
    ]
    if len(capacities) > LISTED:
        listed.append(f"and {len(capacities) - LISTED} more")
    return "; ".join(listed)


def _what_would_fit(roles: Sequence[Role], capacities: Sequence[Capacity]) -> str:
    """Return how many replicas of one role, the last possible one, would fit with all others."""
    for number, role in reversed(list(enumerate(roles))):
        for replicas in range(role.replicas - 1, 0, -1):
            fewer = [*roles[:number], replace(role, replicas=replicas), *roles[number + 1 :]]
            if _homes(_demands(fewer), capacities) is not None:
                return f"{role.name}: {{replicas: {replicas}}} would fit now"
    return ""


def in_words(share: Share) -> str:
    """Return ``1 GPU, 2 cores, 4.0 GiB``."""
    parts = [f"{share.gpus} GPU" + ("s" if share.gpus != 1 else "")]
    if share.cpus is not None:
        parts.append(f"{share.cpus} core" + ("s" if share.cpus != 1 else ""))
    if share.memory is not None:
        gib = share.memory / 2**30
        parts.append(f"{gib:.1f} GiB" if gib >= 1 else f"{share.memory / 2**20:.0f} MiB")
    return ", ".join(parts)
