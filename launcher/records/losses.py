"""The curve of a run's loss in little, for lists of runs: reading it is bounded."""

from __future__ import annotations

from pathlib import Path

from .scalars import Key, Scalars, logs_of

#: Bytes that one look reads, of TensorBoard's files in all, and of a log: of a longer one, the end.
BUDGET, MOST_EVENTS, MOST_LOG = 1 << 19, 16 << 20, 4 << 20
#: Losses of one run that are told apart.
TAGS = 8


class Losses(Scalars):
    """The losses of a run: of TensorBoard's files, or else of the logs of the lowest rank, or of the
    first process of each role."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self._left, self._reads_log = MOST_EVENTS, False

    def look(self) -> bool:
        """Read on; return whether there is no more to read for now."""
        if not self._reads_log:
            budget = min(BUDGET, self._left)
            rest = self._events(budget) if budget else 0
            self._left -= budget - rest
            if self.series or not rest:
                return rest > 0 or self._left <= 0
        left = BUDGET
        logs = logs_of(self._run)
        for path, source in logs:
            if source.rpartition(" ")[2] != logs[0][1].rpartition(" ")[2]:
                continue
            if left <= 0:
                return False
            name = path.relative_to(self._run / "logs").as_posix()
            if name not in self._at:
                self._at[name] = max(0, path.stat().st_size - MOST_LOG)
            left = self._log(path, source, left)
            self._reads_log = bool(self.series)
        return left > 0

    def _takes(self, key: Key) -> bool:
        return "loss" in key.tag.lower() and len(self.series) < TAGS

    def curve(self, points: int) -> tuple[str, list[float]]:
        """Return the name of the loss that people look at first, and about so many of its values."""
        if not self.series:
            return "", []
        key = min(
            self.series, key=lambda key: ("val" in key.tag, len(key.tag), key.tag, key.source)
        )
        return key.tag, [value for _, _, value in self.series[key].at_most(points)]
