"""Format the Pythons that hosts keep for the next run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...spec import nodeset
from .log_lines import harmless
from .tables import age, counted, cut, moment, size, table

if TYPE_CHECKING:
    from ...api.client import Kept, KeptPython

#: Characters of a set of hosts, and of what they import for which script.
HOSTS, CELL = 20, 16

_NONE = "nothing is kept: launcher run --preload torch --keep-warm 10m SCRIPT would keep it"


def kept_text(known: Mapping[str, Kept], now: float) -> str:
    """Return a row for what hosts keep for one script, and how to end it. Of several hosts no process
    ids are shown."""
    rows: dict[tuple[str, ...], list[tuple[str, KeptPython]]] = {}
    for host, answer in known.items():
        for one in answer.kept:
            rows.setdefault(_alike(one, now), []).append((host, one))
    if not rows:
        return _NONE
    lines = [
        (cut(nodeset.fold(dict.fromkeys(host for host, _ in its)), HOSTS), *row, *_of_all(its))
        for row, its in rows.items()
    ]
    head = ("hosts", "modules", "script", "until", "memory", "pids")
    return table(head, lines) + "\nend them: launcher warm --end"


def ended_text(known: Mapping[str, Kept]) -> str:
    """Return how many have ended, and where."""
    ended = {host: one.ended for host, one in known.items() if one.ended}
    if not ended:
        return "nothing was kept"
    return f"ended {counted(sum(ended.values()), 'Python')} on {nodeset.fold(ended)}"


def _alike(one: KeptPython, now: float) -> tuple[str, ...]:
    """Return what Pythons have to have in common to share a row."""
    left = f"{moment(now + one.left, now)} ({age(one.left)})"
    return _shown(", ".join(one.modules)), _shown(one.command), left


def _of_all(its: Sequence[tuple[str, KeptPython]]) -> tuple[str, str]:
    """Return the memory of these Pythons, and their process ids."""
    each = " each" if len(its) > 1 else ""
    is_one = len({host for host, _ in its}) == 1
    pids = " ".join(str(pid) for _, one in its for pid in one.pids) if is_one else "-"
    return size(max(one.memory for _, one in its)) + each, pids


def _shown(text: str) -> str:
    return cut(harmless(text.encode()).decode(), CELL)
