"""What a run waits for, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...records import events as ev
from ...records.reasons import WaitReason
from ...spec import nodeset
from .tables import due

#: Why a run that its hosts start waits for some of them.
LACKING = {
    WaitReason.NO_LEADER: "too few of its hosts are in touch with each other to begin it",
    WaitReason.MAY_HAVE_BEGUN: "may have begun on hosts that are out of reach: launcher attach",
}
#: Paths that are named in a line.
FEW = 3


def waits_text(event: ev.RunWaits) -> str:
    """Return the place of a run, what it waits for, and by when it begins."""
    if event.why is WaitReason.NOT_YET and event.latest is not None:
        return f"begins at {due(event.latest, event.time)} at the earliest"
    if event.why in _BY_PROJECT:
        return rule_text(event.why, event.project, event.used, event.most, event.hosts)
    why = wait_reason(event.why, event.runs, event.users, event.hosts, event.outside)
    return f"number {event.place} of {event.waiting}, {why}{until(event.latest, event.time)}"


_BY_PROJECT = (WaitReason.QUOTA, WaitReason.LIMIT, WaitReason.NO_MAJORITY)


def rule_text(
    why: WaitReason, project: str, used: int = 0, most: int = 0, hosts: Sequence[str] = ()
) -> str:
    """Return which rule of its project holds a run back; without ``most``, by what its claim says."""
    if why is WaitReason.NO_MAJORITY:
        silent = f": {nodeset.fold(hosts)} cannot be reached" if hosts else ""
        return f"too few hosts answer to decide about project {project}{silent}"
    word = "limit" if why is WaitReason.LIMIT else "quota"
    numbers = f": {used} of {most} GPUs in use" if most or used else ""
    return f"beyond the {word} of project {project}{numbers}"


def left_to(hosts: Sequence[str], wanted: int, most: int = 0) -> str:
    """Return which hosts start a run by themselves: all of them, or as many as are ``wanted``; up to
    ``most`` if it is elastic."""
    count = {0: "", 1: "one of "}.get(wanted, f"{wanted} of ")
    count = f"{wanted} to {most} of " if most else count
    return f"{count}{nodeset.fold(hosts)}"


def who_starts(hosts: Sequence[str], wanted: int, most: int = 0) -> str:
    """Return who starts it, as the end of a sentence that names these hosts."""
    if most:
        return "; as many as are free start it"
    if wanted:
        free = "is free first starts" if wanted == 1 else "are free first start"
        return f"; whichever {free} it"
    return ", which starts it" if len(hosts) == 1 else ", which start it together"


def wait_reason(
    why: WaitReason,
    runs: Sequence[str],
    users: Mapping[str, str],
    hosts: Sequence[str],
    outside: str = "",
) -> str:
    """Return what a run waits for; see :class:`launcher.records.events.RunWaits`."""
    if why is WaitReason.HOSTS_MISSING:
        return f"{nodeset.fold(hosts)} cannot be reached"
    if why is WaitReason.TOO_LARGE:
        return "more than its hosts have now"
    named = first_few(tuple(_whose(run, users, outside) for run in runs))
    if why is WaitReason.TAKING_BACK:
        return f"takes borrowed GPUs back from {named}"
    return f"behind {named}" if why is WaitReason.BEHIND else f"in use by {named}"


def _whose(run: str, users: Mapping[str, str], outside: str) -> str:
    """Return ``ann (calm-otter-1234)``; runs of other programs have no name."""
    if outside and not run:
        return f"programs outside launcher: {outside}"
    user = users.get(run, "")
    return f"{user} ({run})" if run and user else run or f"{user or 'somebody'} outside launcher"


def until(latest: float | None, now: float) -> str:
    """Return by when a run begins, as far as anybody knows."""
    return f"; by {due(latest, now)}" if latest else ""


def first_few(paths: tuple[str, ...]) -> str:
    """Return the first of these, and how many more there are."""
    more = f" and {len(paths) - FEW} more" if paths[FEW:] else ""
    return ", ".join(paths[:FEW]) + more
