"""Tables, counts, sizes and durations for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from ...spec import nodeset
from ...spec.process_key import ProcessKey

#: The columns that a long last cell needs beside the others; with fewer it goes below its row.
BESIDE = 30


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "", width: int | None = None
) -> str:
    """Return rows under a head, with aligned columns. The last column may be long: where a row is wider
    than ``width`` (None: any width), it continues below itself, or comes below its row."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    before = len(indent) + sum(widths[:-1]) + 2 * (len(widths) - 1)
    if width is not None and before + widths[-1] > width:
        return _hanging(head, rows, indent, widths, before, width)
    return "\n".join(_line(row, widths, indent) for row in [head, *rows])


def _line(row: Sequence[str], widths: Sequence[int], indent: str) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return (indent + "  ".join(cells)).rstrip()


def _hanging(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    indent: str,
    widths: Sequence[int],
    before: int,
    width: int,
) -> str:
    import textwrap  # for narrow terminals, not for every command

    beside = width - before >= BESIDE
    start = before if beside else len(indent) + 4
    lines = [_line(head, widths, indent) if beside else _line(head[:-1], widths[:-1], indent)]
    for row in rows:
        last = textwrap.wrap(row[-1], max(BESIDE, width - start), break_on_hyphens=False)
        first = [*row[:-1], last.pop(0) if beside and last else ""]
        lines += [_line(first, widths, indent), *(" " * start + line for line in last)]
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


def age(seconds: float) -> str:
    """Return ``12 s``, ``5 min``, ``3 h`` or ``8 d``."""
    for most, unit, length in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < most:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 86400)} d"


def took(seconds: float) -> str:
    """Return ``0.4 s``, ``12 s``, ``16 min``, ``2 h 10`` or ``3 d 4 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return age(seconds)
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return f"{hours} h {minutes:02d}" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(then: float, now: float) -> str:
    """Return ``19:03`` for today, ``Thu 19:03`` for the last six days, else ``3 Dec``, ``3 Dec 25``."""
    at, today = local(then), local(now)
    if at[:3] == today[:3]:
        return time.strftime("%H:%M", at)
    if 0 <= now - then < 6 * 86400:
        return time.strftime("%a %H:%M", at)
    return f"{at.tm_mday} {time.strftime('%b' if at.tm_year == today.tm_year else '%b %y', at)}"


def due(then: float, now: float) -> str:
    """Return ``19:03`` for today, and ``28 Nov 19:03`` for a later day."""
    at, today = local(then), local(now)
    return time.strftime("%H:%M" if at[:3] == today[:3] else "%d %b %H:%M", at)


def local(then: float) -> time.struct_time:
    """Return a moment in local time. One of a damaged record may be in no calendar."""
    return time.localtime(min(max(then, 0.0), _LAST))


#: A moment before the year 10000, in which calendars end.
_LAST = 253_000_000_000.0


def cut(text: str, width: int) -> str:
    """Return a text that is no longer than ``width``."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``2 min 05 s`` or ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
