"""Decide what to tell of a run that waits, and when it is news. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...records import events as ev
from ...records.reasons import WaitReason
from ...spec.model import Project
from . import turn
from .projects import Standing, Use
from .turn import Begin, Stand, Wait

#: A run that waits for one of these can begin nowhere, whoever ends: it holds nobody back.
ASIDE = (WaitReason.HOSTS_MISSING, WaitReason.TOO_LARGE)
#: Seconds by which an estimate may be off before it is told anew.
ROUGHLY = 30.0


def is_passing(answer: Begin | Wait, run: str) -> bool:
    """Return whether a run waits for itself alone: it has begun on some hosts, or what it had
    there is about to be free."""
    runs = {turn.short(one) for one in answer.runs} if isinstance(answer, Wait) else set()
    return runs == {turn.short(run)}


def of_turn(answer: Begin | Wait, stands: Sequence[Stand], now: float) -> ev.RunWaits:
    """Return why a run waits, as its hosts have it; one that could begin waits for its project."""
    there = turn.waiting(stands)
    if not isinstance(answer, Wait):
        return ev.RunWaits(now, 1, max(1, len(there)), WaitReason.QUOTA)
    return ev.RunWaits(
        time=now,
        place=answer.place,
        waiting=len(there),
        why=turn.reason(answer, there),
        runs=answer.runs,
        users={run: one for run, one in turn.users(stands).items() if run in answer.runs},
        hosts=answer.hosts,
        latest=None if answer.seconds is None else now + answer.seconds,
        outside=turn.outside(stands) if "" in answer.runs else "",
    )


def of_project(
    event: ev.RunWaits,
    rule: Project,
    standing: Standing,
    takes: Sequence[str],
    uses: Sequence[Use],
) -> ev.RunWaits:
    """Return the event with the rule of its project that holds the run back, or with whom it asks for
    GPUs: the runs that it ``takes`` them from, among all ``uses``."""
    if standing.why is not None and not takes:
        most = rule.limit if standing.why is WaitReason.LIMIT else rule.quota
        return replace(
            event,
            why=standing.why,
            runs=(),
            users={},
            hosts=standing.silent,
            latest=None,
            outside="",
            project=rule.name,
            used=standing.used,
            most=most or 0,
        )
    if takes:
        return replace(
            event,
            why=WaitReason.TAKING_BACK,
            runs=tuple(takes),
            users={use.run: use.user for use in uses if use.run in takes},
            outside="",
            project=rule.name,
        )
    return event


def alike(one: ev.RunWaits, other: ev.RunWaits) -> bool:
    """Return whether two events tell a person the same."""
    names = ("place", "waiting", "why", "runs", "hosts", "outside", "used", "most")
    if any(getattr(one, name) != getattr(other, name) for name in names):
        return False
    if one.latest is None or other.latest is None:
        return one.latest is other.latest
    return abs(one.latest - other.latest) < ROUGHLY
