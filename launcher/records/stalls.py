"""When a run stalls, and which rank is behind, judged from its hosts' reports. Pure.

A run stalls when all its hosts stall at once: a single host may be idle because its ranks wait for
another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..spec.process_key import ProcessKey, ProcessKind
from . import events as ev
from .reasons import Over
from .state import ProcessState, RunState

#: Seconds between two logs falling silent for one to count as the first: clocks differ by less.
APART = 0.5

#: A rank is behind when all others have used this many times its CPU time.
TIMES = 4.0

#: What helps where the last owner of gloo's process group goes with Python's lock held.
_DROP = (
    "At the end of the script, drop the model and optimizer (del, then gc.collect()), then call "
    "torch.distributed.destroy_process_group()"
)

#: Seconds of CPU time below which ranks are not compared.
SOME = 0.1


def has_stalled(
    state: RunState, hosts: Iterable[str], reported: Iterable[ev.StallBegan] = ()
) -> bool:
    """Return whether every host that still runs processes stalls, and all of them can be reached.

    A stall of which every part was ``reported`` before is no new one: other hosts may finish while
    one still stalls.
    """
    running = set(hosts) - state.ended_hosts - set(state.lost)
    return (
        state.status == "running"
        and running <= set(state.stalled)
        and not running & set(state.silent)
        and any(state.stalled[host] not in reported for host in running)
    )


def describe(
    stalled: Mapping[str, ev.StallBegan], now: float, processes: Iterable[ProcessState] = ()
) -> ev.RunStalled:
    """Return the stall of a run at time ``now``, with the rank that is behind if that is clear.

    That is the only one of the run's ``processes`` that has not ended; a rank whose last line differs
    from most others'; one that has hardly computed anything; or else the one whose log fell silent
    first. Ranks that never wrote are left out: often only rank 0 writes.
    """
    ranks = [
        {**rank, "host": host, "since": event.time - float(rank["silent"])}
        for host, event in stalled.items()
        for rank in event.ranks
    ]
    began = min(event.time - event.seconds for event in stalled.values())
    found = ev.RunStalled(time=now, seconds=now - began)
    if last := straggler(processes):
        left = [rank for rank in ranks if (rank["host"], rank["key"]) == (last.host, last.key)]
        if left:
            return _behind(found, left, "all others have ended with 0")
    written = [rank for rank in ranks if rank["bytes"]]
    counted = Counter(str(rank["last"]) for rank in written)
    common, count = counted.most_common(1)[0] if counted else ("", 0)
    others = [rank for rank in written if rank["last"] != common]
    if others and count > len(written) / 2 and count > 1:
        return _behind(found, others, f"the last line of {count} others is another one")
    if late := _hardly_started(ranks):
        used = f"it has computed for {float(late['cpu']):.1f} s, others like it for much longer"
        return _behind(found, [late], used)
    since = [float(rank["since"]) for rank in written]
    if len(since) < 2 or max(since) - min(since) < APART:
        return found
    return _behind(found, written, "its log fell silent first")


def straggler(processes: Iterable[ProcessState]) -> ProcessState | None:
    """Return the only rank that has not ended, if all others of its group have done so with 0."""
    ranks = [process for process in processes if process.rank is not None]
    for rank in ranks:
        group = ProcessKey.group_of(rank.key)
        others = [r for r in ranks if r is not rank and ProcessKey.group_of(r.key) == group]
        if rank.code is None and others and all(other.is_done for other in others):
            return rank
    return None


def _hardly_started(ranks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a rank that has used far less CPU time than all others of its role, which wait for it.
    Ranks of another role may have little to do."""
    for rank in ranks:
        group = ProcessKey.group_of(rank["key"])
        others = [r for r in ranks if r is not rank and ProcessKey.group_of(r["key"]) == group]
        least = TIMES * max(float(rank["cpu"]), SOME)
        if others and all(float(other["cpu"]) > least for other in others):
            return rank
    return None


def name_of(host: str, key: str) -> str:
    """Return what to call a process in a sentence: ``gpu2 rank 1``, or ``gpu2 worker-1`` of a role."""
    kind = ProcessKey.kind_of(key)
    return f"{host} {key.replace('-', ' ') if kind is ProcessKind.RANK else key}"


def over(host: str, key: str, code: str) -> str:
    """Return how a process hangs whose script is over, and what helps, as a sentence."""
    who = f"{name_of(host, key)} has finished its script, and"
    match code:
        case Over.GLOO_WAITS:
            return (
                f"{name_of(host, key)} hangs where it drops a model or a process group, in its last "
                "line as a rule: Python and a thread of torch's gloo wait for each other "
                f"(pytorch/pytorch#190489). {_DROP}"
            )
        case Over.FOR_THREADS:
            return f"{who} Python waits for its threads: end them, or start them with daemon=True"
        case Over.WITH_GLOO:
            return (
                f"{who} hangs as Python ends, with threads of torch's gloo: they and Python wait for "
                f"each other at times (pytorch/pytorch#190489). {_DROP}"
            )
        case _:
            return f"{who} hangs as Python ends, in a library: gdb -p PID shows where"


def _behind(stall: ev.RunStalled, ranks: list[dict[str, Any]], why: str) -> ev.RunStalled:
    """Return the stall with the one of ``ranks`` that fell silent first as the one behind."""
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
