"""Format the Pythons that hosts keep for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...spec import nodeset
from .log_lines import harmless
from .tables import age, counted, moment, size, table

if TYPE_CHECKING:
    from ...api.client import Kept, KeptPython

_NONE = "nothing is kept: launcher run --preload torch --keep-warm 10m SCRIPT would keep it"


def kept_text(known: Mapping[str, Kept], now: float) -> str:
    """Return a row for each Python, equal ones of several hosts as one, and how to end them."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for host, answer in known.items():
        for one in answer.kept:
            rows.setdefault(_row(one, now), []).append(host)
    if not rows:
        return _NONE
    lines = [(nodeset.fold(hosts), *row) for row, hosts in rows.items()]
    head = ("hosts", "modules", "script", "until", "memory", "pids")
    return table(head, lines) + "\nend them: launcher warm --end"


def ended_text(known: Mapping[str, Kept]) -> str:
    """Return how many have ended, and where."""
    ended = {host: one.ended for host, one in known.items() if one.ended}
    if not ended:
        return "nothing was kept"
    return f"ended {counted(sum(ended.values()), 'Python')} on {nodeset.fold(ended)}"


def _row(one: KeptPython, now: float) -> tuple[str, ...]:
    left = f"{moment(now + one.left, now)} ({age(one.left)})"
    pids = " ".join(map(str, one.pids))
    cells = (", ".join(one.modules), one.command, left, size(one.memory), pids)
    return tuple(harmless(cell.encode()).decode() for cell in cells)
