"""Format the queue: a row for each run that holds GPUs, and for each that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...records.reasons import WaitReason
from ...spec import nodeset
from ...spec.gpus import fold
from .tables import age, counted, due, table
from .waits import LACKING, rule_text, until, wait_reason

if TYPE_CHECKING:
    from ...api.client import Holding, Queue, Waiting

_HEAD = ("", "waiting", "user", "gpus", "hosts", "for", "time")
_PRIORITIES = {-1: "low", 0: "", 1: "high"}


def queue_text(queue: Queue, now: float, width: int | None = None) -> str:
    """Return who holds GPUs, who waits, and how many are free, in so many columns (None: any)."""
    parts = []
    if queue.holding:
        rows = [_holding(one, now) for one in queue.holding]
        parts.append(table(("run", "user", "gpus", "since", "ends by"), rows))
    if queue.waiting:
        parts.append(waiting_table(queue.waiting, now, width))
    waits = len(queue.waiting)
    who = {0: "nobody waits", 1: "1 run waits"}.get(waits, f"{waits} runs wait")
    parts.append(f"{counted(queue.gpus, 'GPU')}, {queue.free} free; {who}")
    return "\n\n".join(parts)


def waiting_table(waiting: Sequence[Waiting], now: float, width: int | None = None) -> str:
    """Return a row for each run that waits."""
    rows = [_waiting(one, now) for one in waiting]
    return table((*_HEAD, "started by", "why"), rows, width=width)


def _holding(one: Holding, now: float) -> tuple[str, ...]:
    return (
        _named(one.run or "(not launcher)", one),
        one.user,
        _gpus(one.gpus),
        age(max(0.0, now - one.since)) if one.since else "-",
        due(one.until, now) if one.until else "-",
    )


def _named(run: str, one: Holding) -> str:
    return (
        f"{run} [{one.project}{', preemptible' if one.preemptible else ''}]" if one.project else run
    )


def _gpus(held: Mapping[str, tuple[int, ...]]) -> str:
    """Return ``gpu[1-2] 0-3  gpu3 0``: hosts with the same GPUs together."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for host, gpus in held.items():
        alike.setdefault(gpus, []).append(host)
    return "  ".join(f"{nodeset.fold(hosts)} {fold(gpus)}" for gpus, hosts in alike.items())


def _waiting(one: Waiting, now: float) -> tuple[str, ...]:
    where = nodeset.fold(one.hosts) + (f" and {one.elsewhere} more" if one.elsewhere else "")
    return (
        "-" if one.place is None else str(one.place or "now"),
        one.run,
        one.user,
        _shares(one.shares),
        where,
        age(max(0.0, now - one.since)),
        age(one.time_limit) if one.time_limit else "-",
        _started_by(one),
        _why(one, now),
    )


def _started_by(one: Waiting) -> str:
    if not one.by_itself:
        return "its launcher"
    return "its hosts" if len(one.hosts) + one.elsewhere > 1 else "its host"


def _shares(shares: tuple[int, ...]) -> str:
    """Return ``4`` for one node, ``2x4+2`` for two with 4 GPUs and one with 2."""
    counts = {size: shares.count(size) for size in sorted(set(shares), reverse=True)}
    return "+".join(f"{count}x{size}" if count > 1 else str(size) for size, count in counts.items())


def _why(one: Waiting, now: float) -> str:
    priority = f"{_PRIORITIES[one.priority]} priority, " if _PRIORITIES[one.priority] else ""
    if one.project:
        priority = f"{one.project}{', within quota' if one.within else ''}, {priority}"
    if one.why in (WaitReason.QUOTA, WaitReason.LIMIT, WaitReason.NO_MAJORITY):
        return f"{priority}{rule_text(one.why, one.project, hosts=one.missing)}"
    if one.why in LACKING:
        return f"{priority}{LACKING[one.why]}"
    if one.full:
        there = nodeset.fold(one.full)
        return f"{priority}no space left on {there} to write down that it begins: launcher df"
    if one.place == 0:
        return f"{priority}prepares its start"
    if one.place is None or one.why is None:
        return f"{priority}too few of its hosts can be reached from where it was started"
    reason = wait_reason(one.why, one.runs, one.users, one.hosts)
    return f"{priority}{reason}{until(one.latest, now)}"
