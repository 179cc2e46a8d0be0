"""The GPUs of this host, and which of them the processes of a run really use.

Each vendor has a file with the same functions: nvidia.py describes them.
"""

from __future__ import annotations

import os
import time

from ..processes import processes
from . import nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from typing import IO, Any

    from ..base.messages import GpuFacts

#: Seconds from the start of a run to the first look at its use of GPUs, and between looks.
FIRST_LOOK, NEXT_LOOK = 5.0, 30.0
#: Variables of a login that bound which GPUs its programs use.
BOUNDS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


def vendor(name: str) -> Any:
    """Return the module of a vendor by its name; NVIDIA's for a name that is not known here.

    The others are only imported where they are needed: every start would wait for them.
    """
    if name == "amd":
        from . import amd

        return amd
    if name == "intel":
        from . import intel

        return intel
    return nvidia


def _installed() -> list[Any]:
    """Return the modules of the vendors whose tool is installed."""
    tools = (("nvidia-smi", ""), ("amd-smi", "amd"), ("rocm-smi", "amd"), ("xpu-smi", "intel"))
    return [vendor(name) for tool, name in tools if processes.is_program(tool)]


def first_vendor() -> Any:
    """Return the module of the first vendor whose tool is installed; None for none."""
    return next(iter(_installed()), None)


def listed(seconds: float = 10) -> list[GpuFacts]:
    """Return the GPUs of this host, of the first vendor that has any; ``[]`` for none."""
    for one in _installed():
        found: list[GpuFacts] = one.listed(seconds)
        if found:
            return found
    return []


def failing() -> str:
    """Return the tool that is installed, lists no GPU and fails; "" for none."""
    return next((one.TOOL for one in _installed() if one.is_failing()), "")


def bounds() -> dict[str, str]:
    """Return the variables that bound the GPUs of this login, as far as it sets them."""
    return {name: os.environ[name] for name in BOUNDS if name in os.environ}


class GpuWatch:
    """Records which GPUs the descendants of this process use, when it changes."""

    def __init__(self, record: Callable[..., None]) -> None:
        self._record = record
        self._vendor: Any = nvidia
        self._indices: dict[str, int] = {}  # by UUID, and by the index as text
        self._seen: set[int] = set()
        self._query: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None
        self.pids: set[int] = set()
        self.next_look = float("inf")

    def begin(self, indices: dict[str, int], name: str = nvidia.NAME) -> None:
        """Start to look; ``indices`` are the numbers of GPUs by UUID, ``name`` is their vendor's."""
        self._vendor = vendor(name)
        self._indices = dict({str(index): index for index in indices.values()}, **indices)
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
                self._vendor.apps_command(),
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
            self._take(self._vendor.apps(answer.read().decode("utf-8", "replace")))
        return True

    def _take(self, uses: Iterable[tuple[int, str, int]]) -> None:
        ours = set(processes.descendants(os.getpid()))
        used = {
            self._indices[name] for pid, name, _ in uses if pid in ours and name in self._indices
        }
        if used - self._seen:
            self._seen |= used
            self._record("GpusUsed", gpus=sorted(self._seen))

    def close(self) -> None:
        """Kill a query that still runs."""
        if self._query is not None:
            processes.send(self.pids, 9)
