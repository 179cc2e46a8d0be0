"""What became of the others when one process has failed, and what they said last. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from .state import ProcessState, RunState

#: Characters of a last line that are kept.
LINE = 200
#: What torch and gloo put into a line without telling more: the rank, and a place in their source.
_PREFIX = re.compile(r"\A\[rank\d+\]: ?|\[/[^\]\s]*\.(?:cc|cpp|h):\d+\] ")
#: Warnings and notes as glog writes them (``[W1121 13:41:07.80 socket.cpp:207] ...``): no last words.
_NOTE = re.compile(r"\[?[IW]\d{4} [\d:.]+ ")
#: What differs between ranks that say the same: numbers and addresses.
_OWN = re.compile(r"0x[0-9a-fA-F]+|\d+")


@frozen
class OtherEnd:
    """Processes of one host that ended badly in the same way, besides the first failure.

    ``code`` is None where no end was heard of; ``keys`` are those without a rank.
    """

    host: str
    ranks: tuple[int, ...]
    keys: tuple[str, ...]
    code: int | None
    stopped: bool


@frozen
class LastLine:
    """What some of the others said last: one of their lines, which differ in numbers at most.

    ``ranks`` said so, and ``places`` ("host key") of those without a rank.
    """

    ranks: tuple[int, ...]
    places: tuple[str, ...]
    line: str


def others(state: RunState) -> tuple[ProcessState, ...]:
    """The processes that did not end well besides the one that failed first; none where none has.

    A framework's own launcher says nothing that its ranks do not say: left out where a host has
    ranks.
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


def last_lines(said: Iterable[tuple[ProcessState, bytes]]) -> tuple[LastLine, ...]:
    """Folds the ends of logs: those first that ended by themselves, then what most of them said."""
    groups: dict[tuple[bool, str], list[tuple[ProcessState, str]]] = {}
    for process, text in said:
        if line := _last(text.decode("utf-8", "replace")):
            group = groups.setdefault((process.stopped, _OWN.sub("#", line)), [])
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
    told = [line for line in lines if line and not _NOTE.match(line)]
    return told[-1][:LINE] if told else ""


def other_ends(state: RunState) -> tuple[OtherEnd, ...]:
    """What became of the others, when one has failed."""
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
