"""Place the processes of roles on hosts by GPUs, cores and memory: packed, or spread on request.

The search is a heuristic: it tries a few orders, large processes first, so it may refuse a set that
could be placed by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ..spec.errors import PlanError
from ..spec.frozen import frozen
from ..spec.model import Role, Share, Task

#: The most hosts that an error lists one by one.
LISTED = 8


@frozen
class Room:
    """What one host offers; None: unknown, assumed to be enough."""

    host: str
    gpus: tuple[int, ...] = ()
    cpus: int | None = None
    memory: int | None = None


@frozen
class Wish:
    """A process to place."""

    role: str
    index: int
    share: Share
    spread: bool

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
    rooms: Sequence[Room],
    most: int | None = None,
    own_ranks: bool = False,
    first: Collection[str] = (),
) -> tuple[Placed, ...]:
    """Return the hosts to use: the first process's host first, the others in the order of ``rooms``.

    The roles in ``first`` come first, then primary roles. At most ``most`` hosts are used, the
    largest ones. With ``own_ranks`` each process starts one rank per GPU itself. Raises PlanError
    when the roles do not fit.
    """
    ordered = sorted(roles, key=lambda role: (role.name not in first, not role.primary))
    open_rooms = _largest(rooms, most)
    homes = _homes(_wishes(ordered), open_rooms)
    if homes is None:
        raise _no_place(ordered, open_rooms)
    return _numbered(ordered, homes, open_rooms, own_ranks)


def _wishes(roles: Sequence[Role]) -> list[Wish]:
    return [
        Wish(role.name, index, role.at(index).resources, role.spread)
        for role in roles
        for index in range(role.replicas)
    ]


def _largest(rooms: Sequence[Room], most: int | None) -> list[Room]:
    sized = sorted(rooms, key=lambda r: (len(r.gpus), r.memory or 0, r.cpus or 0), reverse=True)
    chosen = {room.host for room in sized[:most]}
    return [room for room in rooms if room.host in chosen]


# -- choosing hosts


_Homes = dict[tuple[str, int], int]  # (role, index) -> number of the room
_ORDERS = (
    lambda w: (w.share.gpus, w.share.memory or 0, w.share.cpus or 0),
    lambda w: (w.share.memory or 0, w.share.gpus, w.share.cpus or 0),
    lambda w: (w.share.cpus or 0, w.share.gpus, w.share.memory or 0),
)


def _homes(wishes: Sequence[Wish], rooms: Sequence[Room]) -> _Homes | None:
    """Try the orders, large processes first; return the first complete placement, or None."""
    for size in _ORDERS:
        homes = _try(sorted(wishes, key=size, reverse=True), rooms)
        if len(homes) == len(wishes):
            return homes
    return None


def _try(wishes: Sequence[Wish], rooms: Sequence[Room]) -> _Homes:
    left = [Share(len(room.gpus), room.cpus, room.memory) for room in rooms]
    homes: _Homes = {}
    to_come = sum(wish.share.gpus for wish in wishes)
    for wish in wishes:
        fitting = [n for n, free in enumerate(left) if _fits(wish.share, free)]
        if not fitting:
            return homes
        best = min(fitting, key=lambda n: _cost(n, wish, left[n], homes, to_come))
        homes[wish.role, wish.index] = best
        left[best] = _minus(left[best], wish.share)
        to_come -= wish.share.gpus
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
    room: int, wish: Wish, free: Share, homes: _Homes, to_come: int
) -> tuple[int, bool, int, int]:
    """Return the cost of a room: less is better.

    Prefer few processes of the same role if it is spread, then a host already in use, then the
    smallest host for all GPUs still to place, else the largest. CPU processes avoid GPU hosts.
    """
    alike = sum(1 for (role, _), home in homes.items() if home == room and role == wish.role)
    used = room in homes.values()
    if used or not wish.share.gpus:
        gpus = free.gpus
    else:
        gpus = free.gpus if free.gpus >= to_come else 1_000_000 - free.gpus
    return (alike if wish.spread else 0, not used, gpus, room)


# -- numbering ranks


def _numbered(
    roles: Sequence[Role], homes: _Homes, rooms: Sequence[Room], own_ranks: bool
) -> tuple[Placed, ...]:
    first = homes[roles[0].name, 0]
    used = sorted(set(homes.values()), key=lambda number: (number != first, number))
    homes = _in_order(roles, homes, used)
    found = []
    rank = 0
    for number in used:
        free = list(rooms[number].gpus)
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
        found.append(Placed(rooms[number].host, tuple(tasks)))
    return tuple(found)


def _in_order(roles: Sequence[Role], homes: _Homes, used: Sequence[int]) -> _Homes:
    """Swap processes with equal wishes, so that their indices rise along the hosts."""
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


def _no_place(roles: Sequence[Role], rooms: Sequence[Room]) -> PlanError:
    wishes = _wishes(roles)
    for wish in wishes:
        if not any(_fits(wish.share, _whole(room)) for room in rooms):
            return PlanError(
                f"{wish.name} ({in_words(wish.share)}) fits on no host: {_have(rooms)}",
                "lower resources: of its role, or add hosts",
            )
    return PlanError(
        f"{_all(roles)} do not fit: {_have(rooms)}", _what_would_fit(roles, rooms) or "add hosts"
    )


def _whole(room: Room) -> Share:
    return Share(len(room.gpus), room.cpus, room.memory)


def _all(roles: Sequence[Role]) -> str:
    return ", ".join(f"{role.replicas} {role.name} ({in_words(role.resources)})" for role in roles)


def _have(rooms: Sequence[Room]) -> str:
    listed = [f"{room.host} has {in_words(_whole(room))}" for room in rooms[:LISTED]]
    if len(rooms) > LISTED:
        listed.append(f"and {len(rooms) - LISTED} more")
    return "; ".join(listed)


def _what_would_fit(roles: Sequence[Role], rooms: Sequence[Room]) -> str:
    """Return how many replicas of one role, the last possible one, would fit with all others."""
    for number, role in reversed(list(enumerate(roles))):
        for replicas in range(role.replicas - 1, 0, -1):
            fewer = [*roles[:number], replace(role, replicas=replicas), *roles[number + 1 :]]
            if _homes(_wishes(fewer), rooms) is not None:
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
