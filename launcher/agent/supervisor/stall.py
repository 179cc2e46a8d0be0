"""Notices that the ranks of a run make no progress on this host: no log output, CPU time or GPU use.

CPU time of torchrun and the like does not count once the ranks are known, nor does a rank's polling
for the others. A rank that spins while it waits, without ever sleeping, counts as busy.
"""

from __future__ import annotations

import os
import time

from ..base import protocol
from ..host import gpu_locks, gpus
from ..processes import processes
from .polling import Polling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..base.messages import Message

#: The part of one core that an idle rank may use, for heartbeats, watchdogs and slow polling
#: (measured: Horovod 3 %). For polling thousands of times a second see polling.py.
NOISE = 0.05
#: Two ticks of the clock that the kernel counts CPU time with.
TICKS = 0.02
#: Percent of a GPU's time above which it is in use.
GPU_NOISE = 5
#: Seconds for nvidia-smi; if it hangs, the stall is reported all the same.
GPU_SECONDS = 2.0
#: Most bytes of the last line to report, and bytes of the log to search for it.
LINE, TAIL = 200, 4096


class _Rank:
    """What was seen of one rank, or of a process whose ranks are not known yet."""

    def __init__(self, rank: int | None, pid: int, stem: str) -> None:
        self.rank, self.pid, self.stem = rank, pid, stem
        self.size = 0
        self.base = self.cpu = 0.0
        self.since = time.monotonic()  # when its CPU time was ``base``
        self.polling = Polling(NOISE)

    def moved(self, now: float, cpu: float, window: float) -> bool:
        """Return whether it wrote to its logs, or used more CPU time than noise within a window."""
        size = sum(status.st_size for _, status in self._logs())
        wrote, self.size, self.cpu = size != self.size, size, cpu
        self.base += self.polling.spent(self.pid, now, cpu)
        worked = cpu - self.base > max(TICKS, NOISE * window)
        if wrote or worked or cpu < self.base or now - self.since >= window:
            self.base, self.since = cpu, now
        return wrote or worked

    def _logs(self) -> Iterator[tuple[str, os.stat_result]]:
        for stream in (".out", ".err"):
            try:
                yield self.stem + stream, os.stat(self.stem + stream)
            except OSError:
                continue

    def describe(self, key: str) -> Message:
        """Return its fields for the journal: silence of its logs, CPU time, last line."""
        logs = sorted(self._logs(), key=lambda log: (log[1].st_size > 0, log[1].st_mtime))
        silent = time.time() - logs[-1][1].st_mtime if logs else 0.0
        return {
            "key": key,
            "rank": self.rank,
            "pid": self.pid,
            "silent": round(silent, 3),
            "cpu": round(self.cpu, 2),
            "bytes": self.size,
            "last": _last_line(logs[-1][0]) if logs else "",
        }


class StallWatch:
    """Records when a stall begins and ends; ``seconds`` is how long it takes, None for never."""

    def __init__(self, record: Callable[..., None], seconds: float | None) -> None:
        self._record = record
        self._seconds = float("inf") if seconds is None else seconds
        self._pause = min(10.0, max(0.05, self._seconds / 5))
        self._known: dict[str, _Rank] = {}  # by key
        self._moved_at = time.monotonic()
        self._began: float | None = None
        self.gpus: list[int] = []
        self.vendor = ""  # of the GPUs
        self.inside: Callable[[str, int], int] | None = (
            None  # what a client has started in an image
        )
        self.next_look = float("inf")

    def heard(self, event: str, fields: Message) -> None:
        """Note an event of this host: which processes there are."""
        key = fields.get("key", protocol.SETUP)
        if self._seconds == float("inf") or key.startswith(protocol.SETUP):
            return
        if event == "ProcessStarted":
            stem = os.path.join("logs", "attempt-%d" % fields["attempt"], key)
            self._known[key] = _Rank(fields["rank"], fields["pid"], stem)
            self.next_look = time.monotonic() + self._pause
        elif event == "ProcessExited":
            self._known.pop(key, None)
        if fields.get("code", 0) == 0:  # a failure is no progress: everything stops
            self._move(time.monotonic())

    @property
    def watched(self) -> dict[str, int]:
        """``{key: pid}`` of the ranks, or of the processes that start them while no rank is known."""
        ranks = {key: known for key, known in self._known.items() if known.rank is not None}
        return {key: known.pid for key, known in (ranks or self._known).items()}

    def look(self, now: float, ending: bool) -> None:
        """Compare with the last look, if it is time to. A run that is ``ending`` does not stall."""
        if now < self.next_look:
            return
        if self.inside:
            for key, known in self._known.items():
                known.pid = self.inside(key, known.pid)
        watched = self.watched
        self.next_look = now + self._pause if watched else float("inf")
        if not watched or ending:
            self._moved_at = now
            return
        used = processes.cpu_seconds(watched.values())
        moved = [
            self._known[key].moved(now, used[pid], self._seconds) for key, pid in watched.items()
        ]
        if any(moved):
            self._move(now)
        elif self._began is None and now - self._moved_at >= self._seconds:
            self._begin(now, watched)

    def _move(self, now: float) -> None:
        self._moved_at = now
        if self._began is not None:
            began, self._began = self._began, None
            self._record("StallEnded", seconds=round(now - began, 3))

    def _begin(self, now: float, watched: dict[str, int]) -> None:
        if self.gpus and _gpus_in_use(self.gpus, self.vendor):
            self._moved_at = now
            return
        self._began = now
        ranks = [self._known[key].describe(key) for key in watched]
        self._record("StallBegan", seconds=round(now - self._moved_at, 3), ranks=ranks)


def _last_line(path: str) -> str:
    """Return the last line that is not empty, as a terminal shows it; at most ``LINE`` bytes."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().replace(b"\r", b"\n").split(b"\n")
    except OSError:
        return ""
    line = next((line.strip() for line in reversed(lines) if line.strip()), b"")
    return line[:LINE].decode("utf-8", "replace")


def _gpus_in_use(indices: Iterable[int], vendor: str) -> bool:
    """Return whether any of these GPUs computes now; False if the vendor's tool does not answer.

    A MIG instance counts as in use when its GPU does, where nvidia-smi tells that.
    """
    parents = {gpu_locks.parent_of(index) for index in indices}
    loads = gpus.vendor(vendor).load(GPU_SECONDS)
    return any((loads[index]["percent"] or 0) > GPU_NOISE for index in parents if index in loads)
