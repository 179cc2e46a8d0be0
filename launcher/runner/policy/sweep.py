"""Which hosts the next trial of a sweep gets, and whether there is a next one. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from ...records.reasons import EndReason
from ...spec.frozen import frozen

#: A host whose trials fail so often in a row is left out: it is not the values that are wrong.
IN_A_ROW = 3


class Ended(Protocol):
    """What came of a trial."""

    @property
    def failed(self) -> bool: ...

    @property
    def hosts(self) -> tuple[str, ...]: ...

    @property
    def reason(self) -> str: ...


@frozen
class Slot:
    """Room for one trial at a time: its hosts, or none where launcher chooses them for each run."""

    hosts: tuple[str, ...] = ()


def slots(hosts: Sequence[str], nodes: int | None, concurrency: int | None) -> tuple[Slot, ...]:
    """Return the slots of a sweep whose trials take ``nodes`` of these hosts; None takes all of them.

    Trials share hosts only where ``concurrency`` asks for more than there are groups of hosts.
    """
    size = min(nodes or len(hosts), len(hosts))
    groups = [tuple(hosts[at : at + size]) for at in range(0, len(hosts) - size + 1, size)]
    return tuple(Slot(groups[n % len(groups)]) for n in range(concurrency or len(groups)))


def chosen_by_launcher(concurrency: int | None) -> tuple[Slot, ...]:
    """Return the slots of a sweep whose trials ask for GPUs or have roles."""
    return tuple(Slot() for _ in range(concurrency or 1))


def left_out(ended: Sequence[Ended]) -> frozenset[str]:
    """Return the hosts whose last trials all failed, while others did not; ``ended`` in that order."""
    row: dict[str, int] = {}
    for trial in ended:
        for host in trial.hosts:
            row[host] = row.get(host, 0) + 1 if trial.failed else 0
    bad = {host for host, count in row.items() if count >= IN_A_ROW}
    return frozenset() if bad == set(row) else frozenset(bad)


def none_fits(ended: Sequence[Ended]) -> bool:
    """Return whether trials have ended, and none of them fits on the hosts."""
    return bool(ended) and all(trial.reason == EndReason.DOES_NOT_FIT for trial in ended)


def too_many(ended: Sequence[Ended], all_trials: int, most: float | None) -> bool:
    """Return whether more trials failed than a sweep takes: a number, or a part of all below 1."""
    if most is None:
        return False
    allowed = math.floor(most * all_trials) if most < 1 else most
    return sum(trial.failed for trial in ended) > allowed
