"""Tables, counts, sizes and durations for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...spec import nodeset
from ...spec.process_key import ProcessKey


def table(head: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Return rows under a head, with aligned columns. The last column may be long."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def counted(count: int, thing: str) -> str:
    """Return ``1 host``, ``2 hosts``, ``2 processes``."""
    plural = "es" if thing.endswith("s") else "s"
    return f"{count} {thing}{'' if count == 1 else plural}"


def fold_tasks(keys: Iterable[str]) -> str:
    """Return ``chief-0 worker-[0-2]``: the processes of roles, role by role."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(ProcessKey.group_of(key), []).append(key)
    return " ".join(nodeset.fold(group) for group in groups.values())


def wrapped(label: str, parts: Sequence[str], width: int) -> list[str]:
    """Return parts in as few lines as they need, the first after a label."""
    lines = [label]
    for part in parts:
        if len(lines[-1]) + len(part) > width and lines[-1].strip() and lines[-1] != label:
            lines.append(" " * len(label))
        lines[-1] += part + "  "
    return [line.rstrip() for line in lines]


def size(count: int) -> str:
    """Return ``1.2 MB`` for 1234567 bytes."""
    amount = float(min(count, 10**30))  # a damaged record may hold any number
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def age(seconds: float) -> str:
    """Return ``12 s``, ``5 min``, ``3 h`` or ``8 d``."""
    for most, unit, length in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < most:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 86400)} d"


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``2 min 05 s`` or ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
