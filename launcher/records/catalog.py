"""The runs of this machine: which there are, which one a user means, and how each stands.

Reads folders only; hosts are asked by :mod:`launcher.api.runs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..spec.errors import InputError, UnknownRun, UnreadableRecord, suggestion
from ..spec.frozen import frozen
from ..spec.typed_json import from_json
from . import events as ev
from . import formats
from .run_folder import holder, home, read_record
from .run_reader import RunReader
from .state import ENDED, fold

#: A folder with one of these is a run.
_RECORDS = ("events.jsonl", "run.json", "receipt.json")
#: The status of a run whose files cannot be read; its reason says which, and where.
UNREADABLE = "unreadable"


@frozen
class Summary:
    """One run in a line. ``followed`` says whether a process of this machine follows it: then what
    stands here is up to date. ``damaged`` names lines of its record that were passed over."""

    run: str
    status: str
    reason: str
    started: float
    hosts: tuple[str, ...]
    gpus: int
    ranks: int
    followed: bool
    folder: str
    damaged: str = ""


def folders() -> list[Path]:
    """All runs that are recorded here, the oldest first."""
    found = {path.parent for name in _RECORDS for path in (home() / "runs").glob(f"*/{name}")}
    return sorted(found, key=lambda path: (_started(path), path.name))


def _started(path: Path) -> float:
    try:
        with open(path / "events.jsonl", "rb") as file:
            return from_json(_First, json.loads(file.readline())).time
    except (OSError, ValueError, RecursionError):
        return _modified(path)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it was removed a moment ago
        return 0.0


def names() -> list[str]:
    """The names of all runs here, the oldest first."""
    return [path.name for path in folders()]


def find(word: str) -> Path:
    """The folder of the run that a user means: a name, the beginning of one, or ``-`` for the latest.

    Raises UnknownRun, or InputError when several fit.
    """
    known = {path.name: path for path in folders()}
    if word == "-" and known:
        return known[list(known)[-1]]
    if word in known:
        return known[word]
    fitting = [name for name in known if word and name.startswith(word)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise InputError(f'several runs begin with "{word}"', ", ".join(fitting[-6:]))
    hint = suggestion(word, list(known)) or "launcher ls shows all runs"
    raise UnknownRun(f'there is no run "{word}" here' if known else "there are no runs here", hint)


@frozen
class _First:
    """What is asked of a run's first event."""

    time: float


@frozen
class _Place:
    """What is asked of a node in ``run.json``."""

    host: str
    gpus: tuple[int, ...] = ()
    local_world_size: int = 0


@frozen
class _Described:
    """What is asked of ``run.json``."""

    started: float | None = None
    nodes: tuple[_Place, ...] = ()
    hosts: tuple[str, ...] = ()


def summary(path: Path) -> Summary:
    """Return how a run stands, folded from its events; UNREADABLE where a file of it is damaged."""
    described, status, reason = _Described(), UNREADABLE, ""
    damaged, followed = "", False
    try:
        followed = holder(path) is not None
        file = path / "run.json"
        described = formats.read_record(_Described, read_record(file) or {}, file)
        events = RunReader(path).events()
        state = fold(events)
        status, reason, damaged = state.status, state.reason, ev.damage(events)
    except UnreadableRecord as error:
        reason = str(error)
    return Summary(
        run=path.name,
        status=status,
        reason=reason,
        started=_started(path) if described.started is None else described.started,
        hosts=tuple(node.host for node in described.nodes) or described.hosts,
        gpus=sum(len(node.gpus) for node in described.nodes),
        ranks=sum(node.local_world_size for node in described.nodes),
        followed=followed and status not in ENDED,
        folder=str(path),
        damaged=damaged,
    )


def summaries() -> Iterator[Summary]:
    """All runs of this machine, the latest first."""
    for path in reversed(folders()):
        yield summary(path)
