"""How the other processes ended after one had failed, and what they printed last. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from .last_words import ends_in_traceback, essence, failed_tasks
from .state import ProcessState, RunState

#: Characters kept of a last line.
LINE = 200
#: Tasks that are named at most.
TASKS = 4
#: Prefixes of torch and gloo that add nothing: the rank, and a place in their source.
_PREFIX = re.compile(r"\A\[rank\d+\]: ?|\[/[^\]\s]*\.(?:cc|cpp|h):\d+\] ")
#: Warnings and notes of glog (``[W1121 13:41:07.80 socket.cpp:207] ...``), which explain no exit.
_NOTE = re.compile(r"\[?[IW]\d{4} [\d:.]+ ")
#: Numbers and addresses, which differ between ranks that print the same line.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")


@frozen
class OtherEnd:
    """Processes of one host that failed in the same way, besides the first failure.

    ``code`` is None when no exit was reported; ``keys`` are the processes without a rank.
    """

    host: str
    ranks: tuple[int, ...]
    keys: tuple[str, ...]
    code: int | None
    stopped: bool


@frozen
class LastLine:
    """The last line of some of the others, which differ in numbers at most: one of their lines.

    ``ranks`` printed it, and ``places`` ("host key"), which are processes without a rank.
    """

    ranks: tuple[int, ...]
    places: tuple[str, ...]
    line: str


def others(state: RunState) -> tuple[ProcessState, ...]:
    """Return the processes that failed after the first one; none when no process has failed.

    A framework's own launcher adds nothing to what its ranks report, so it is left out on a host
    with ranks.
    """
    first = state.failure
    if first is None:
        return ()
    ranked = {p.host for p in state.processes.values() if p.rank is not None}
    return tuple(
        p
        for p in state.processes.values()
        if not p.well
        and (p.host, p.key) != (first.host, first.key)
        and (p.rank is not None or p.host not in ranked)
    )


def tracebacks(outputs: Iterable[tuple[ProcessState, bytes]]) -> tuple[LastLine, ...]:
    """Return the exceptions with which processes ended that nevertheless exited with 0."""
    return last_lines(
        (process, text)
        for process, text in outputs
        if process.code == 0 and ends_in_traceback(text.decode("utf-8", "replace"))
    )


def tasks_failed(outputs: Iterable[tuple[ProcessState, bytes]]) -> tuple[str, ...]:
    """Return what srun said of tasks that failed, in scripts that exited with 0 all the same."""
    texts = (text for process, text in outputs if process.code == 0)
    found = (line for text in texts for line in failed_tasks(text.decode("utf-8", "replace")))
    return tuple(dict.fromkeys(found))[:TASKS]


def unended(outputs: Iterable[tuple[ProcessState, bytes]]) -> dict[ProcessState, str]:
    """Return the processes that have not ended although their last lines are a traceback, each with the
    last one."""
    found = {}
    for process, output in outputs:
        text = output.decode("utf-8", "replace")
        if process.code is None and ends_in_traceback(text):
            found[process] = _last(essence(text))
    return found


def last_lines(outputs: Iterable[tuple[ProcessState, bytes]]) -> tuple[LastLine, ...]:
    """Group processes by their last line: first those that exited on their own, then the largest
    groups."""
    groups: dict[tuple[bool, str], list[tuple[ProcessState, str]]] = {}
    for process, text in outputs:
        if line := _last(essence(text.decode("utf-8", "replace"))):
            group = groups.setdefault((process.stopped, _VARYING.sub("#", line)), [])
            group.append((process, line))
    order = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), _lowest(item[1])))
    return tuple(
        LastLine(
            ranks=tuple(sorted(p.rank for p, _ in group if p.rank is not None and _ranked(p.key))),
            places=tuple(f"{p.host} {p.key}" for p, _ in group if not _ranked(p.key)),
            line=group[0][1],
        )
        for _, group in order
    )


def _ranked(key: str) -> bool:
    return ProcessKey.kind_of(key) is ProcessKind.RANK


def _lowest(group: list[tuple[ProcessState, str]]) -> int:
    return min((p.rank for p, _ in group if p.rank is not None), default=-1)


def _last(text: str) -> str:
    lines = [_PREFIX.sub("", line.strip()) for line in text.splitlines()]
    messages = [line for line in lines if re.search(r"\w", line) and not _NOTE.match(line)]
    return messages[-1][:LINE] if messages else ""


def other_ends(state: RunState) -> tuple[OtherEnd, ...]:
    """Return how the other processes ended after one had failed, grouped by host and exit."""
    groups: dict[tuple[str, int | None, bool], list[ProcessState]] = {}
    for process in others(state):
        groups.setdefault((process.host, process.code, process.stopped), []).append(process)
    return tuple(
        OtherEnd(
            host=host,
            ranks=tuple(sorted(p.rank for p in group if p.rank is not None and _ranked(p.key))),
            keys=tuple(p.key for p in group if p.rank is None or not _ranked(p.key)),
            code=code,
            stopped=stopped,
        )
        for (host, code, stopped), group in groups.items()
    )
