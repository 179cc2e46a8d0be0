"""The scalars of runs for pages. A run's reader is kept, so that the next look reads what is new."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

from ..records.scalars import Scalars, Series
from . import confined

#: Runs whose curves are kept, and the most points of a curve in an answer.
KEPT, POINTS = 24, 2000


class Curves:
    """Reads the curves of runs; threads that ask for the same run wait for each other."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._known: OrderedDict[str, tuple[Lock, Scalars]] = OrderedDict()

    def of(self, root: Path, run: str, tags: list[str], points: int) -> dict[str, Any]:
        """Return all series of a run, and the points of those with these tags. Raises OSError."""
        with confined.folder(root, (run,)):
            lock, scalars = self._entry(root, run)
        with lock:
            whole = scalars.look()
            found = [
                _series(key.tag, key.source, one, points if key.tag in tags else 0)
                for key, one in scalars.series.items()
            ]
        return {"whole": whole, "scalars": sorted(found, key=_order)}

    def _entry(self, root: Path, run: str) -> tuple[Lock, Scalars]:
        with self._guard:
            known = self._known.pop(run, None) or (Lock(), Scalars(root / run))
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


def _order(one: dict[str, Any]) -> tuple[bool, str, str]:
    """Sort what says how well it goes before everything else."""
    return "loss" not in one["tag"].lower(), one["tag"], one["source"]
