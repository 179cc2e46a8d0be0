"""Data sets as tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...api.data import DataSets, DataThere, HostError, KnownSet
from ...spec import nodeset
from ...spec.data import SHORT, on_a_host
from ...spec.sizes import size
from .tables import age, counted, table


def known_text(sets: Sequence[KnownSet], now: float, width: int | None = None) -> str:
    """Return the data sets of this machine."""
    if not sets:
        return "no data sets; launcher data add NAME FOLDER adds one"
    rows = [
        (
            one.name,
            one.version.short,
            str(one.version.files),
            size(one.version.bytes),
            f"{age(max(0.0, now - one.read))} ago",
            one.source,
        )
        for one in sets
    ]
    return table(("name", "version", "files", "size", "read", "source"), rows, width=width)


def set_text(one: KnownSet, now: float) -> str:
    """Return one data set."""
    files = counted(one.version.files, "file")
    lines = [
        f"{one.name}: {files}, {size(one.version.bytes)}, version {one.version.short}",
        f"from {one.source}, read {age(max(0.0, now - one.read))} ago",
    ]
    if one.credential:
        lines.append(f"with credential {one.credential}")
    if one.to:
        lines.append(f"runs find it at {one.to}")
    return "\n".join(lines)


def source_host(one: KnownSet) -> str | None:
    """Return the host whose folder a data set is."""
    there = on_a_host(one.source)
    return there[0] if there else None


def there_text(one: KnownSet, there: Mapping[str, DataSets | HostError], now: float) -> str:
    """Return what hosts have of a data set; hosts that have the same are one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for host, found in there.items():
        if isinstance(found, HostError):
            continue
        mine = [
            its for its in found.sets if its.name == one.name or its.version == one.version.version
        ]
        cells = [_cells(one, its, now) for its in mine]
        if source_host(one) == host:
            cells.insert(0, ("in place", "-", "-", "the source"))
        cells = cells or [("nothing", "-", "-", "")]
        for cell in cells:
            rows.setdefault(cell, []).append(host)
    listed = [(nodeset.fold(hosts), *cells) for cells, hosts in rows.items()]
    return table(("hosts", "version", "size", "used", ""), listed)


def _cells(one: KnownSet, its: DataThere, now: float) -> tuple[str, str, str, str]:
    notes = ["pinned"] if its.pinned else []
    if its.runs:
        notes.append(
            f"used by {its.runs[0]}" + (f" and {len(its.runs) - 1} more" * (len(its.runs) > 1))
        )
    if not its.whole:
        notes.insert(0, "incomplete: launcher data push continues it")
    elif its.version != one.version.version:
        notes.insert(0, "another version")
    used = f"{age(max(0.0, now - its.used))} ago"
    return its.version[:SHORT], size(its.bytes), used, ", ".join(notes)
