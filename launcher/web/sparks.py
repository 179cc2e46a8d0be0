"""What a list shows of what its runs printed: a loss in little, how far they are, the last line."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

from ..records.last_line import last_line
from ..records.losses import Losses
from ..spec.errors import LauncherError
from . import confined
from .answers import Runs, Stamp

#: Runs in one answer, points of a curve, and seconds after which an answer leaves the others out.
MOST, POINTS, PATIENCE = 60, 32, 0.25
#: Runs whose curves are kept, and of those that go on or are not read to their ends, their readers.
KEPT, READERS = 10_000, 128

#: A curve as a page gets it, and the stamp of a run that has ended and was read to its end.
Known = tuple[dict[str, Any], Stamp]


class Sparks:
    """Reads a little of each run that is asked for; what has ended and was read is read no more."""

    def __init__(self, runs: Runs) -> None:
        self._runs, self._guard = runs, Lock()
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._readers: OrderedDict[str, Losses] = OrderedDict()

    def of(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the curves of these runs, as far as there is time. A page asks again for the others,
        and for those that are not ``whole``."""
        found: dict[str, Any] = {}
        began = time.monotonic()
        with self._guard:
            stamps = self._runs.stamps()
            for name in names[:MOST]:
                if (stamp := stamps.get(name)) is None:
                    continue
                known = self._known.get(name)
                if known is not None and known[1] == stamp:
                    found[name] = known[0]
                elif time.monotonic() - began < PATIENCE:
                    found[name] = self._look(name, stamp)
        return {"sparks": found}

    def _look(self, name: str, stamp: Stamp) -> dict[str, Any]:
        try:
            with confined.folder(self._runs.root, (name,)):
                reader = self._readers.pop(name, None) or Losses(self._runs.root / name)
            whole = reader.look()
            ended = bool(self._runs.line(name)["ended"])
            last = last_line(self._runs.root / name)
        except (OSError, LauncherError):
            return {"tag": "", "values": [], "whole": True, "line": "", "progress": None}
        tag, values = reader.curve(POINTS)
        answer = {
            "tag": tag,
            "values": values,
            "whole": whole,
            "line": last.line,
            "progress": last.progress,
        }
        if whole and ended:
            self._known[name] = answer, stamp
        else:
            self._readers[name] = reader
        for kept, most in ((self._known, KEPT), (self._readers, READERS)):
            while len(kept) > most:
                kept.popitem(last=False)
        return answer
