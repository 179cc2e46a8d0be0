"""When a run stalls, and which rank is behind: from what its hosts say of their ranks. Pure.

A run stalls when all its hosts do at once, because a host whose ranks wait for another one is idle
with good reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..spec.process_key import ProcessKey, ProcessKind
from . import events as ev
from .state import RunState

#: Seconds that logs have to fall silent apart for one to be the first: clocks differ by less.
APART = 0.5

#: How many times the CPU time of a rank all others have to have used for it to be behind.
TIMES = 4.0

#: Seconds of CPU time that are too few to be compared.
SOME = 0.1


def has_stalled(state: RunState, hosts: Iterable[str], told: Iterable[ev.StallBegan] = ()) -> bool:
    """Whether nothing moves on any host that still has something to do and can be heard.

    What was ``told`` is no news: the others of a stall may end, and one goes on standing still.
    """
    going = set(hosts) - state.ended_hosts - set(state.lost)
    return (
        state.status == "running"
        and going <= set(state.stalled)
        and not going & set(state.silent)
        and any(state.stalled[host] not in told for host in going)
    )


def describe(stalled: Mapping[str, ev.StallBegan], now: float) -> ev.RunStalled:
    """The stall of a run, with the rank that is behind where something can tell.

    A rank whose last line is not the one of most others; one that has hardly computed anything; or
    else the one whose log fell silent first. Logs of ranks that have never written tell nothing: often
    only rank 0 writes.
    """
    ranks = [
        {**rank, "host": host, "since": event.time - float(rank["silent"])}
        for host, event in stalled.items()
        for rank in event.ranks
    ]
    began = min(event.time - event.seconds for event in stalled.values())
    found = ev.RunStalled(time=now, seconds=now - began)
    written = [rank for rank in ranks if rank["bytes"]]
    counted = Counter(str(rank["last"]) for rank in written)
    common, count = counted.most_common(1)[0] if counted else ("", 0)
    others = [rank for rank in written if rank["last"] != common]
    if others and count > len(written) / 2 and count > 1:
        return _behind(found, others, f"the last line of {count} others is another one")
    if late := _hardly_begun(ranks):
        used = f"it has computed for {float(late['cpu']):.1f} s, others like it for much longer"
        return _behind(found, [late], used)
    since = [float(rank["since"]) for rank in written]
    if len(since) < 2 or max(since) - min(since) < APART:
        return found
    return _behind(found, written, "its log fell silent first")


def _hardly_begun(ranks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A rank that waits before it has come to where all others of its kind wait for it. Those of
    another role may have little to do."""
    for rank in ranks:
        group = ProcessKey.group_of(rank["key"])
        others = [r for r in ranks if r is not rank and ProcessKey.group_of(r["key"]) == group]
        least = TIMES * max(float(rank["cpu"]), SOME)
        if others and all(float(other["cpu"]) > least for other in others):
            return rank
    return None


def _behind(stall: ev.RunStalled, ranks: list[dict[str, Any]], why: str) -> ev.RunStalled:
    """The one of ``ranks`` that fell silent first."""
    first = min(ranks, key=lambda rank: float(rank["since"]))
    return ev.RunStalled(
        time=stall.time,
        seconds=stall.seconds,
        host=first["host"],
        rank=first["rank"],
        silent=round(stall.time - first["since"], 3),
        last=first["last"],
        why=why,
        key=first["key"] if ProcessKey.kind_of(first["key"]) is ProcessKind.ROLE else "",
    )
