"""The values of a trial: how well it does at each step, and in the end.

A metric is a pattern with one group, which finds them in the logs, or ``scalar:TAG``, one of
TensorBoard's scalars. A reader keeps its place, so that the next look reads only what came meanwhile.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from pathlib import Path

from . import metric
from .scalars import Scalars

#: How a metric begins that is a scalar of TensorBoard. As in launcher/jobs/sweep_file.py.
SCALAR_OF = "scalar:"
#: Bytes of a log that one look reads.
PIECE = 8 << 20


class Printed:
    """The numbers that a pattern finds in the first log that has some; the step is their place there."""

    def __init__(self, run: Path, pattern: str) -> None:
        self._run, self._pattern = run, re.compile(pattern.encode())
        self._log: Path | None = None
        self._at = self._count = 0

    def look(self) -> list[tuple[int, float]]:
        """Return what came since the last look. A later attempt begins again at step 0."""
        latest = metric.logs(self._run)
        if self._log is not None and self._log.parent not in {log.parent for log in latest}:
            self._log = None
        for log in latest if self._log is None else [self._log]:
            if self._log is None:
                self._at = self._count = 0
            if found := self._read(log):
                self._log = log
                return found
        return []

    def _read(self, log: Path) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        with suppress(OSError), log.open("rb") as file:
            file.seek(self._at)
            data = file.read(PIECE)
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if not end and len(data) == PIECE:  # no line that anybody wrote
                end = len(data)
            for line in re.split(rb"[\r\n]", data[:end]):
                for match in self._pattern.finditer(line[: metric.LONGEST]):
                    number = metric.number_in(match[1])
                    if number is not None:
                        found.append((self._count, number))
                        self._count += 1
            if found or log == self._log:
                self._at += end
        return found


class Written:
    """The points of a scalar of TensorBoard, of the folder of outputs that has it first."""

    def __init__(self, run: Path, tag: str) -> None:
        self._scalars, self._tag, self._seen = Scalars(run), tag, 0

    def look(self) -> list[tuple[int, float]]:
        """Return what came since the last look."""
        self._scalars.look_at_events()
        mine = [key for key in self._scalars.series if key.tag == self._tag]
        if not mine:
            return []
        series = self._scalars.series[min(mine, key=lambda key: key.source)]
        new, self._seen = series.count - self._seen, series.count
        found = [(step, value) for step, _, value in series.points[-new:]] if new else []
        if new and series.last is not None and found[-1:] != [(series.last[0], series.last[2])]:
            found.append((series.last[0], series.last[2]))
        return [(step, value) for step, value in found if math.isfinite(value)]


def reader(run: Path, metric_of: str) -> Printed | Written:
    """Return a reader of the values of the run in this folder."""
    if metric_of.startswith(SCALAR_OF):
        return Written(run, metric_of.removeprefix(SCALAR_OF))
    return Printed(run, metric_of)


def last_value(run: Path, metric_of: str) -> float | None:
    """Return the value of a trial in the end: the last one; None for none."""
    if not metric_of.startswith(SCALAR_OF):
        return metric.last_value(run, metric_of)
    points = Written(run, metric_of.removeprefix(SCALAR_OF)).look()
    return points[-1][1] if points else None
