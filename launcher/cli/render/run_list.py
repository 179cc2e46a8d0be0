"""The list of runs that ``launcher ls`` prints. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ...api.client import Summary
from ...records.reasons import EndReason
from ...records.state import ENDED
from ...spec import nodeset
from .tables import cut, moment, table, took

_COLOUR = {"succeeded": "green", "failed": "red", "lost": "red", "stopped": "yellow"}
#: Columns of the terminal that a command wants; and so few that a commit gives way, too.
ROOM, LEAST = 24, 12
#: What a narrow terminal leaves out, the first ones first, where a command has less than that.
_SPARED = {
    "ranks": ROOM,
    "gpus": ROOM,
    "hosts": ROOM,
    "project": ROOM,
    "tags": LEAST,
    "commit": LEAST,
}


def run_list(runs: Sequence[Summary], now: float, width: int | None) -> list[str]:
    """Return a table of runs, the latest first, as lines no wider than ``width`` (None: any width).

    Runs that never started a process come below, apart.
    """
    begun = [run for run in runs if run.began]
    never = [run for run in runs if not run.began]
    lines = _table(begun, now, width) if begun else []
    if never:
        lines += [*([""] if lines else []), click.style("never started", dim=True)]
        rows = [(r.run, r.reason or "-", moment(r.started, now), r.command or "-") for r in never]
        room = None if width is None else width - 2
        lines += [f"  {line}" for line in _fitted(("", "", "", ""), rows, room)[1:]]
    return lines


def _hosts(run: Summary) -> str:
    some = f"{run.wanted} of " if run.wanted else ""
    some = f"{run.wanted} to {run.most} of " if run.most else some
    return some + nodeset.fold(run.hosts) if run.hosts else "-"


def _table(runs: Sequence[Summary], now: float, width: int | None) -> list[str]:
    columns = {
        "run": [run.run for run in runs],
        "status": [_status(run) for run in runs],
        "started": [moment(run.started, now) for run in runs],
        "took": [_took(run, now) for run in runs],
        "commit": [run.commit or "-" for run in runs],
        "hosts": [_hosts(run) for run in runs],
        "ranks": [str(run.ranks or "-") for run in runs],
        "gpus": [str(run.gpus or "-") for run in runs],
    }
    if any(run.tags for run in runs):
        columns["tags"] = [",".join(run.tags) or "-" for run in runs]
    if any(run.project for run in runs):
        columns["project"] = [run.project or "-" for run in runs]
    for name, room in _SPARED.items():
        taken = sum(max(map(len, [head, *cells])) + 2 for head, cells in columns.items())
        if width is not None and width - taken < room:
            columns.pop(name, None)
    columns["command"] = [run.command or "-" for run in runs]
    head, *lines = _fitted(tuple(columns), list(zip(*columns.values(), strict=True)), width)
    coloured = [_coloured(run, line) for run, line in zip(runs, lines, strict=True)]
    return [click.style(head, dim=True), *coloured]


def _fitted(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """Return the lines of a table that are cut to fit: of a command, its last column, there is less."""
    lines = table(head, rows).split("\n")
    return lines if width is None else [cut(line, width) for line in lines]


def _status(run: Summary) -> str:
    if run.status not in ENDED and not run.followed:
        return f"{run.status} (not followed)"
    plain = run.reason in ("", EndReason.ALL_EXITED_0)
    return run.status if plain else f"{run.status} ({run.reason})"


def _took(run: Summary, now: float) -> str:
    if run.seconds is not None:
        return took(run.seconds)
    return took(max(0.0, now - run.started)) if run.followed else "-"


def _coloured(run: Summary, line: str) -> str:
    colour = _COLOUR.get(run.status)
    start = len(run.run)
    if not colour:
        return line
    return line[:start] + line[start:].replace(run.status, click.style(run.status, fg=colour), 1)
