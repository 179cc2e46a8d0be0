"""Format projects: a row for each, and one for each of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...spec import nodeset
from .tables import counted, table

if TYPE_CHECKING:
    from ...api.client import ProjectShare

_HEAD = ("", "project", "quota", "limit", "in use", "borrowed", "waiting", "users")


def projects_text(shares: Sequence[ProjectShare], own: str | None, width: int | None = None) -> str:
    """Return what each project has; ``*`` marks the one that runs here have."""
    parts = [table(_HEAD, [_row(one, own) for one in shares], width=width)]
    runs = [
        (
            run.run,
            share.name,
            run.user,
            str(run.gpus),
            nodeset.fold(run.hosts),
            ", ".join(_notes(run.preemptible, run.borrows, run.counted)) or "-",
        )
        for share in shares
        for run in share.runs
    ]
    if runs:
        parts.append(table(("run", "project", "user", "gpus", "hosts", "note"), runs, width=width))
    used, borrowed = sum(one.used for one in shares), sum(one.borrowed for one in shares)
    parts.append(f"{counted(used, 'GPU')} in use by projects, {borrowed} borrowed")
    return "\n\n".join(parts)


def _row(one: ProjectShare, own: str | None) -> tuple[str, ...]:
    limit = "-" if one.limit is None else str(one.limit)
    numbers = (str(one.used), str(one.borrowed), str(one.waiting))
    mark = "*" if one.name == own else ""
    return (mark, one.name, str(one.quota), limit, *numbers, ",".join(one.users))


def _notes(preemptible: bool, borrows: bool, counted: bool) -> list[str]:
    notes = ["borrows"] if borrows else ["preemptible"] if preemptible else []
    return notes + (["its hosts cannot be asked"] if counted else [])
