"""Format the Pythons that hosts keep for the next run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...spec import nodeset
from ...spec.sizes import size
from .log_lines import harmless
from .tables import age, counted, cut, moment, table

if TYPE_CHECKING:
    from ...api.client import Kept, KeptPython

#: Characters of a set of hosts, where a terminal has to show the row.
HOSTS = 20

_NONE = "nothing is kept; launcher run --preload torch --keep-warm 10m SCRIPT keeps torch"


def kept_text(known: Mapping[str, Kept], now: float, width: int | None = None) -> str:
    """Return a row for what hosts keep for one script, in so many columns (None: any), and how to end
    it. Of several hosts no process ids are shown."""
    rows: dict[tuple[str, ...], list[tuple[str, KeptPython]]] = {}
    for host, answer in known.items():
        for one in answer.kept:
            rows.setdefault(_alike(one, now), []).append((host, one))
    if not rows:
        return _NONE
    lines = []
    for (until, what), its in rows.items():
        hosts = nodeset.fold(dict.fromkeys(host for host, _ in its))
        lines.append((hosts if width is None else cut(hosts, HOSTS), until, *_of_all(its), what))
    head = ("hosts", "until", "memory", "pids", "modules for the script")
    return table(head, lines, width=width) + "\nend them: launcher warm --end"


def ended_text(known: Mapping[str, Kept]) -> str:
    """Return how many have ended, and where."""
    ended = {host: one.ended for host, one in known.items() if one.ended}
    if not ended:
        return "nothing was kept"
    return f"ended {counted(sum(ended.values()), 'Python')} on {nodeset.fold(ended)}"


def _alike(one: KeptPython, now: float) -> tuple[str, ...]:
    """Return what Pythons have to have in common to share a row."""
    left = f"{moment(now + one.left, now)} ({age(one.left)})"
    what = f"{', '.join(one.modules)} for {one.command}"
    return left, harmless(what.encode()).decode()


def _of_all(its: Sequence[tuple[str, KeptPython]]) -> tuple[str, str]:
    """Return the memory of these Pythons, and their process ids."""
    each = " each" if len(its) > 1 else ""
    is_one = len({host for host, _ in its}) == 1
    pids = " ".join(str(pid) for _, one in its for pid in one.pids) if is_one else "-"
    return size(max(one.memory for _, one in its)) + each, pids
