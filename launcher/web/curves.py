"""The scalars and metrics of runs for pages. A run's reader is kept, so that the next look reads what is
new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from ..records.metric_curves import TAGS
from ..records.scalars import Key, Series
from . import confined

#: Runs whose curves are kept, and the most points of a curve in an answer.
KEPT, POINTS = 24, 2000


class Reader(Protocol):
    """Keeps its place in the files of a run."""

    @property
    def series(self) -> Mapping[Key, Series]:
        """The curves so far."""

    def look(self) -> bool:
        """Read on; return whether all was read."""


class Curves:
    """Reads the curves of runs; threads that ask for the same run wait for each other."""

    def __init__(self, read: Callable[[Path], Reader], order: Callable[[str], Any]) -> None:
        self._read, self._order = read, order
        self._guard = Lock()
        self._known: OrderedDict[str, tuple[Lock, Reader]] = OrderedDict()

    def of(self, root: Path, run: str, tags: list[str], points: int) -> dict[str, Any]:
        """Return all series of a run, and the points of those with these tags. Raises OSError."""
        with confined.folder(root, (run,)):
            lock, reader = self._entry(root, run)
        with lock:
            whole = reader.look()
            found = [
                _series(key.tag, key.source, one, points if key.tag in tags else 0)
                for key, one in reader.series.items()
            ]
        found.sort(key=lambda one: (self._order(one["tag"]), one["source"]))
        return {"whole": whole, "scalars": found}

    def _entry(self, root: Path, run: str) -> tuple[Lock, Reader]:
        with self._guard:
            known = self._known.pop(run, None) or (Lock(), self._read(root / run))
            self._known[run] = known
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return known


def _series(tag: str, source: str, series: Series, points: int) -> dict[str, Any]:
    value: dict[str, Any] = {
        "tag": tag,
        "source": source,
        "count": series.count,
        "last": series.last,
        "least": series.least,
        "most": series.most,
    }
    if points:
        chosen = series.at_most(min(points, POINTS))
        value |= {
            "steps": [step for step, _, _ in chosen],
            "times": [time for _, time, _ in chosen],
            "values": [number for _, _, number in chosen],
        }
    return value


def of_scalars(tag: str) -> tuple[bool, str]:
    """Sort what says how well it goes before everything else."""
    return "loss" not in tag.lower(), tag


def of_metrics(tag: str) -> int:
    """Sort what people look at first before everything else."""
    return TAGS.index(tag)
