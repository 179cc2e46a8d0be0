"""The GPUs of this host, and which of them the processes of a run really use.

Both come from ``nvidia-smi``, the only interface that needs neither root nor a package.
"""

from __future__ import annotations

import os
import time

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from typing import IO

    from ..base.messages import GpuFacts

#: Seconds from the start of a run to the first look at its use of GPUs, and between looks.
FIRST_LOOK, NEXT_LOOK = 5.0, 30.0

_GPUS = ["--query-gpu=index,name,uuid,memory.total,memory.used", "--format=csv,noheader,nounits"]
APPS = ["--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader,nounits"]


def listed(seconds: float = 10) -> list[GpuFacts]:
    """Return the GPUs of this host; ``[]`` without ``nvidia-smi``. Memory is in MiB."""
    answer = processes.output_of(["nvidia-smi"] + _GPUS, seconds) or ""
    found: list[GpuFacts] = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 5 and fields[0].isdigit():
            index, name, uuid, total, used = fields
            found.append(
                {
                    "index": int(index),
                    "name": name,
                    "uuid": uuid,
                    "memory": _number(total),
                    "memory_used": _number(used),
                }
            )
    return found


def _number(text: str) -> int:
    try:
        return int(float(text))
    except ValueError:
        return 0


class GpuWatch:
    """Records which GPUs the descendants of this process use, when it changes."""

    def __init__(self, record: Callable[..., None]) -> None:
        self._record = record
        self._indices: dict[str, int] = {}  # by UUID
        self._seen: set[int] = set()
        self._query: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None
        self.pids: set[int] = set()
        self.next_look = float("inf")

    def begin(self, indices: dict[str, int]) -> None:
        """Start to look; ``indices`` are the numbers of GPUs by UUID."""
        self._indices = indices
        self.next_look = time.monotonic() + FIRST_LOOK

    def look(self, now: float) -> None:
        """Start a query when it is due; :meth:`reaped` takes its answer."""
        if now < self.next_look or self._query is not None:
            return
        self.next_look = now + NEXT_LOOK
        import subprocess
        import tempfile

        answer = tempfile.TemporaryFile()
        try:
            query = subprocess.Popen(
                ["nvidia-smi"] + APPS,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            self.next_look = float("inf")
            answer.close()
            return
        query.returncode = 0  # the supervisor waits for it, not subprocess
        self._query, self.pids = (query, answer), {query.pid}

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the query, and if so take its answer."""
        if self._query is None or pid not in self.pids:
            return False
        (_, answer), self._query, self.pids = self._query, None, set()
        with answer:
            answer.seek(0)
            lines = answer.read().decode("utf-8", "replace").splitlines()
        self._take(line.split(",") for line in lines)
        return True

    def _take(self, rows: Iterable[list[str]]) -> None:
        ours = {str(pid) for pid in processes.descendants(os.getpid())}
        used = {
            self._indices[uuid.strip()]
            for pid, uuid, *_ in (row for row in rows if len(row) >= 2)
            if pid.strip() in ours and uuid.strip() in self._indices
        }
        if used - self._seen:
            self._seen |= used
            self._record("GpusUsed", gpus=sorted(self._seen))

    def close(self) -> None:
        """Kill a query that still runs."""
        if self._query is not None:
            processes.send(self.pids, 9)
