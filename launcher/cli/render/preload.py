"""Sentences about modules that hosts import ahead of their ranks. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ...records import events as ev
from ...records.reasons import Cold, NotKept
from ...records.receipt import stays_warm
from ...spec import nodeset
from .tables import local, took

_WHY = {
    Cold.IMPORT_FAILED: "{}",
    Cold.EXITED: "the Python that imports ended: {}",
    Cold.TOO_SLOW: "the import took longer than {} s",
    Cold.NOT_STARTED: "the Python that imports did not start: {}",
    Cold.THREADS: "the import has started {} threads, which a fork would lose",
    Cold.GPU_IN_USE: "the import has opened a GPU ({}), which a fork may not use",
    Cold.RELATIVE_PATH: "PYTHONPATH has a relative path",
    Cold.PREPARE: "prepare: may differ between ranks",
    Cold.OTHER_COMMAND: "the command is not a Python script, or not the same for all ranks",
    Cold.OTHER_VARIABLE: "{} differs between ranks, and an import may read it",
    Cold.READ_ALREADY: "the import has read {}, which only a rank has",
    Cold.PREPARED: "the environment sets {} itself",
    Cold.CORES: "ranks have cores of their own, which libraries count as they load",
    Cold.HIDES_MODULE: "{} of this run has the name of a module that was imported",
    Cold.SETS_VARIABLE: "{} is set before the import",
    Cold.TOO_LARGE: "the arguments are too long",
    Cold.FORK_FAILED: "the host allows no more processes",
    Cold.NO_ANSWER: "the Python that imports does not answer",
    Cold.GONE: "nothing of the attempt before was left there",
    Cold.FILE_CHANGED: "{} has changed",
    Cold.OTHER_MODULES: "what an earlier run has left is {}",
    Cold.OTHER_LOGIN: "this login has another {} than that of the earlier run",
    Cold.OTHER_AGENT: "another version of launcher has left what is there",
}
#: The same, where they mean something else for what an attempt before has imported.
_WHY_ANEW = {
    **_WHY,
    Cold.EXITED: "the Python that had imported ended: {}",
    Cold.NO_ANSWER: "the Python that had imported did not answer",
    Cold.THREADS: "the Python that had imported has {} threads, which a fork would lose",
    Cold.GPU_IN_USE: "the Python that had imported has opened a GPU ({})",
    Cold.OTHER_COMMAND: "the command is another one",
    Cold.OTHER_VARIABLE: "{} has another value",
}


_WHY_NOT_KEPT = {
    NotKept.SCOPE: "systemd ends the scope that limits the run",
    NotKept.NO_PLACE: "launcher's folder there: {}",
    NotKept.TOO_OLD: "it was imported more than a day ago",
    NotKept.ALONE: "the host began the run by itself",
}


def why_cold(code: Cold, detail: str) -> str:
    """Return why ranks import for themselves."""
    return _WHY[code].format(detail).removesuffix(": ")


def why_anew(code: Cold, detail: str) -> str:
    """Return why a host could not use what it had imported for the attempt before."""
    return _WHY_ANEW[code].format(detail).removesuffix(": ")


def why_not_kept(code: NotKept | None, detail: str) -> str:
    """Return why nothing stays on a host for the next run."""
    return _WHY_NOT_KEPT[code or NotKept.SCOPE].format(detail)


def preload_text(modules: Sequence[str], events: Sequence[ev.Event]) -> str:
    """Return what became of modules to preload, in one line; "" where no host has said anything."""
    done = [one for one in events if isinstance(one, ev.Preloaded)]
    cold: dict[str, list[str]] = {}
    anew: dict[str, list[str]] = {}
    for one in events:
        if isinstance(one, ev.Preloaded) and one.problem:
            cold.setdefault(why_cold(one.problem, one.detail), []).append(one.host)
        elif isinstance(one, ev.StartedCold):
            cold.setdefault(why_cold(one.why, one.detail), []).append(one.host)
        elif isinstance(one, ev.ImportedAnew):
            anew.setdefault(why_anew(one.why, one.detail), []).append(one.host)
    parts = []
    if warm := [one for one in done if not one.problem and not one.kept]:
        hosts = nodeset.fold(dict.fromkeys(one.host for one in warm))
        parts.append(f"imported on {hosts} in {took(max(one.seconds for one in warm))}")
    if left := [one for one in done if one.kept and not one.attempt]:
        hosts = nodeset.fold(dict.fromkeys(one.host for one in left))
        parts.append(f"left by an earlier run on {hosts}")
    if kept := [one for one in done if one.kept and one.attempt]:
        numbers = sorted({one.attempt for one in kept})
        hosts = nodeset.fold(dict.fromkeys(one.host for one in kept))
        attempts = f"attempt{'s' * (len(numbers) > 1)} {nodeset.fold_ranks(numbers)}"
        parts.append(f"used again on {hosts} by {attempts}")
    for why, places in anew.items():
        parts.append(f"imported anew on {nodeset.fold(dict.fromkeys(places))}: {why}")
    for why, places in cold.items():
        parts.append(f"not used on {nodeset.fold(dict.fromkeys(places))}: {why}")
    parts += _kept_for_others(events)
    return f"{', '.join(modules)} {'; '.join(parts)}" if parts else ""


def _kept_for_others(events: Sequence[ev.Event]) -> Iterator[str]:
    """Say for how long what was imported stays on which hosts, once the run is over."""
    if warm := stays_warm(events, ()):
        until = time.strftime("%H:%M:%S", local(warm.until))
        yield f"stays on {nodeset.fold(warm.hosts)} until {until}"
    last = {one.host: one for one in events if isinstance(one, ev.KeptWarm)}
    not_there: dict[str, list[str]] = {}
    for one in last.values():
        if not one.kept:
            not_there.setdefault(why_not_kept(one.why, one.detail), []).append(one.host)
    for why, places in not_there.items():
        yield f"does not stay on {nodeset.fold(places)}: {why}"
