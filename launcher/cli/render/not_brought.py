"""Say which files of a run are on its hosts alone, and how to get them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ...records.receipt import Because, NotBrought
from ...spec import nodeset
from ...spec.model import AUTO, AUTO_BYTES
from ...spec.sizes import size
from .log_lines import harmless
from .tables import counted, wrapped

#: Paths that are named one by one, and groups of hosts with the same paths.
PATHS, GROUPS = 6, 3
_LABEL = "outputs  "
_INDENT = " " * len(_LABEL)


def not_brought_lines(run: str, left: Sequence[NotBrought], width: int) -> list[str]:
    """Return what is not here, why, and the commands that bring it."""
    missing = [one for one in left if one.because is Because.MISSING]
    kept = [one for one in left if one.because is Because.KEPT]
    outside = [one for one in left if one.because is Because.OUTSIDE]
    lines = []
    if missing:
        lines.append(f"{_LABEL}NOT brought back: {_sum(missing)}: launcher pull {run}")
    if kept:
        lines.append(f"{_LABEL}kept on the hosts: {_sum(kept)}")
        lines.append(f"{_INDENT}now: launcher pull {run} DEST --only '*'")
    if outside:
        lines += _outside(run, outside, width)
    return lines


def loss(left: Sequence[NotBrought]) -> str:
    """Return what would be lost with a run, in a line."""
    paths = _paths([one for one in left if one.path])
    named = f": {', '.join(paths)}" if paths else ""
    return f"{_sum(left)}, never brought back{named}"


def also(left: Sequence[NotBrought]) -> str:
    """Return the option of ``pull`` that brings what was written outside of the outputs."""
    names = list(dict.fromkeys(one.path.rstrip("/") for one in left))
    if len(names) > PATHS or "" in names:
        return "--also '*'"
    return f"--also {shlex.quote(','.join(_harmless(name).replace(',', '?') for name in names))}"


def _outside(run: str, left: Sequence[NotBrought], width: int) -> list[str]:
    lines = [f"{_LABEL}not brought back, because it was written outside of the outputs:"]
    groups: dict[tuple[str, ...], list[NotBrought]] = {}
    for host in dict.fromkeys(one.host for one in left):
        mine = [one for one in left if one.host == host]
        groups.setdefault(tuple(one.path for one in mine), []).extend(mine)
    shown = list(groups.values())[:GROUPS]
    for group in shown:
        lines.append(f"{_INDENT}{_sum(group)}")
        lines += wrapped(f"{_INDENT}  ", _paths(group), width)
    if len(groups) > len(shown):
        lines.append(
            f"{_INDENT}and more on {len(groups) - len(shown)} other hosts: show {run} --json"
        )
    lines.append(f"{_INDENT}now: launcher pull {run} {also(left)}")
    first = _harmless(left[0].path.rstrip("/")) or "PATH"
    ways = [
        f"next time: --output {shlex.quote(first)}",
        f"or --output {AUTO} (up to {size(AUTO_BYTES)} of each host)",
    ]
    return lines + wrapped(_INDENT, ways, width)


def _paths(left: Sequence[NotBrought]) -> list[str]:
    found: dict[str, tuple[int, int]] = {}
    for one in left:
        files, total = found.get(one.path, (0, 0))
        found[one.path] = (files + one.files, total + one.bytes)
    parts = [
        f"{_harmless(path) or 'others'} ({counted(files, 'file')}, {size(total)})"
        if path.endswith("/") or not path
        else f"{_harmless(path)} ({size(total)})"
        for path, (files, total) in found.items()
    ]
    return parts if len(parts) <= PATHS else [*parts[: PATHS - 1], f"{len(parts) - PATHS + 1} more"]


def _sum(left: Sequence[NotBrought]) -> str:
    """Return ``3 files, 1.0 MB on gpu[1-2]``."""
    files, total = sum(one.files for one in left), sum(one.bytes for one in left)
    hosts = nodeset.fold(dict.fromkeys(one.host for one in left))
    return f"{counted(files, 'file')}, {size(total)} on {hosts}"


def _harmless(text: str) -> str:
    return harmless(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
