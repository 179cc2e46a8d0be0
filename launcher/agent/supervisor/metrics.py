"""Measures this host while a run goes on: processors, memory, disks, network and the run's GPUs.

Each look appends a line of JSON to ``metrics.jsonl``, which travels as logs do. Looks become rarer the
longer a run lasts: a month fills 10 MB.
"""

from __future__ import annotations

import os
import time

from ..base import lean, plain_files, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.messages import Message
    from ..host.load import GpuLoads

#: Seconds from the first process to the first look, and to the second, which writes the first line;
#: and between later looks: so many, or this part of the time that has passed.
FIRST, EVERY, PART = 1.0, 5.0, 1e-4


class Metrics:
    """Looks when it is time to. What cannot be read is left out of a line."""

    def __init__(self) -> None:
        self.next_look = float("inf")
        self._began = 0.0
        self._gpus: tuple[list[int], str] = ([], "")  # and their vendor
        self._loads: GpuLoads | None = None
        self._last: tuple[float, Message] | None = (
            None  # when it looked, and what was counted by then
        )

    def begin(self, gpus: Iterable[int], vendor: str) -> None:
        """Begin, with the first stage; ``gpus`` are those of the run."""
        self._gpus = list(gpus), vendor
        if self.next_look == float("inf"):
            self._began = time.monotonic()
            self.next_look = self._began + FIRST

    def look(self, now: float) -> None:
        """Write a line, if it is time to."""
        if now < self.next_look:
            return
        pause = max(EVERY, PART * (now - self._began)) if self._last else FIRST
        self.next_look = now + pause
        from ..host import load  # a run that is over by now needs none of it

        self._loads = self._loads or load.GpuLoads(EVERY)
        loads = self._loads.take(*self._gpus)
        before, counts = self._last, load.counts()
        self._last = now, counts
        if before is not None:
            line = load.described(before[1], counts, now - before[0], loads)
            _append(dict(line, time=round(time.time(), 3)))

    @property
    def pids(self) -> set[int]:
        """The program that watches the GPUs."""
        return self._loads.pids if self._loads else set()

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was that program."""
        return self._loads is not None and self._loads.reaped(pid)

    def close(self) -> None:
        """Look no more."""
        if self._loads:
            self._loads.close()


def _append(line: Message) -> None:
    """Write a line, or nothing: a full disk is not an error here."""
    data = lean.dumps(line).encode("ascii") + b"\n"
    try:
        fd = plain_files.opened(protocol.METRICS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        end = os.lseek(fd, 0, os.SEEK_END)
        if os.write(fd, data) < len(data):
            os.ftruncate(fd, end)
    except OSError:
        return
    finally:
        os.close(fd)
