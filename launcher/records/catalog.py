"""The runs of this machine: which there are, which one a user means, and how each stands.

Reads folders only; hosts are asked by :mod:`launcher.api.runs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..spec.errors import InputError, UnknownRun, suggestion
from ..spec.frozen import frozen
from .run_folder import RunFolder, home
from .state import ENDED, fold


@frozen
class Summary:
    """One run in a line. ``followed`` says whether a process of this machine follows it: then what
    stands here is up to date."""

    run: str
    status: str
    reason: str
    started: float
    hosts: tuple[str, ...]
    gpus: int
    ranks: int
    followed: bool
    folder: str


def folders() -> list[Path]:
    """All runs that are recorded here, the oldest first."""
    found = [path.parent for path in (home() / "runs").glob("*/events.jsonl")]
    return sorted(found, key=lambda path: (_started(path), path.name))


def _started(path: Path) -> float:
    try:
        with open(path / "events.jsonl", "rb") as file:
            return float(json.loads(file.readline())["time"])
    except (OSError, ValueError, KeyError):
        return path.stat().st_mtime


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


def summary(path: Path) -> Summary:
    """How a run stands, folded from its events."""
    folder = RunFolder(path)
    try:
        described: dict[str, Any] = folder.read("run.json") or {}
        state = fold(folder.events())
        followed = folder.holder is not None
    finally:
        folder.close()
    nodes = described.get("nodes", [])
    ended = state.status in ENDED
    return Summary(
        run=path.name,
        status=state.status,
        reason=state.reason,
        started=described.get("started", _started(path)),
        hosts=tuple(node["host"] for node in nodes) or tuple(map(str, described.get("hosts", ()))),
        gpus=sum(len(node["gpus"]) for node in nodes),
        ranks=sum(node["local_world_size"] for node in nodes),
        followed=followed and not ended,
        folder=str(path),
    )


def summaries() -> Iterator[Summary]:
    """All runs of this machine, the latest first."""
    for path in reversed(folders()):
        yield summary(path)
