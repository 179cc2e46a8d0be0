"""Images of hosts as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...api.images import ImagesThere, ImageThere, short_name
from ...spec import nodeset
from ...spec.containers import SHORT
from ...spec.sizes import size
from .tables import age, cut, table

#: The narrowest that a name becomes.
NARROW = 12
#: Names of runs or containers in a row.
SHOWN = 2


def listed_text(there: Mapping[str, ImagesThere], now: float, columns: int) -> str:
    """Return the images of hosts, the one that was used last first; hosts that have the same are one
    row."""
    rows: dict[tuple[str, str], dict[str, ImageThere]] = {}
    for host, its in there.items():
        for one in its.images:
            rows.setdefault((one.runtime, one.id or one.label), {})[host] = one
    lines = []
    ordered = sorted(rows.values(), key=lambda on: -max(one.used for one in on.values()))
    cells = [_cells(on, now) for on in ordered]
    if cells:
        head = ("image", "id", "size", "runtime", "hosts", "used", "now")
        widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
        room = columns - sum(widths[1:-1]) - 2 * (len(head) - 1)
        name = max(NARROW, room - widths[-1])
        users = max(NARROW, room - min(name, widths[0]))
        shown = [(_middle_cut(row[0], name), *row[1:-1], cut(row[-1], users)) for row in cells]
        lines.append(table(head, shown))
    else:
        lines.append(
            "no images that a run has used or launcher brought; launcher image load NAME brings one"
        )
    for runtime, why, hosts in _troubles(there):
        lines.append(f"{nodeset.fold(hosts)}: {runtime} does not tell of its images: {why}")
    return "\n".join(lines)


def _cells(on: Mapping[str, ImageThere], now: float) -> tuple[str, ...]:
    some = list(on.values())
    names = dict.fromkeys(short_name(name) for one in some for name in one.names)
    name = next(iter(names), "-") + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    sizes = [one.bytes for one in some if one.bytes is not None]
    runs = dict.fromkeys(run for one in some for run in one.runs)
    others = dict.fromkeys(name for one in some for name in one.containers)
    return (
        name,
        some[0].id[:SHORT] or "-",
        size(max(sizes)) if sizes else "-",
        some[0].runtime,
        nodeset.fold(on),
        f"{age(max(0.0, now - max(one.used for one in some)))} ago",
        _users([*runs], [*others]),
    )


def _users(runs: Sequence[str], containers: Sequence[str]) -> str:
    named = [*runs, *(f"container {name}" for name in containers)]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(cut(name, 40) for name in named[:SHOWN]) + more or "-"


def _middle_cut(name: str, width: int) -> str:
    """Return a name that is no longer than that: its beginning goes, as its end tells versions apart."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def _troubles(there: Mapping[str, ImagesThere]) -> list[tuple[str, str, list[str]]]:
    """Return which runtimes do not answer, why, and on which hosts."""
    found: dict[tuple[str, str], list[str]] = {}
    for host, its in there.items():
        for runtime, why in its.trouble.items():
            found.setdefault((runtime, why.said or why.code), []).append(host)
    return [(runtime, why, hosts) for (runtime, why), hosts in found.items()]
