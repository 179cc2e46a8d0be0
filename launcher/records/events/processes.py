"""Processes of a run, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ...spec.frozen import frozen
from ..reasons import StopReason
from .event import Event


@frozen
class ProcessStarted(Event):
    """A process runs."""

    host: str
    attempt: int
    key: str
    #: None for setup, and for a process that starts ranks itself.
    rank: int | None
    pid: int
    #: How many primary processes the run has, if this is one of them; else 0.
    primary: int = 0
    #: Which limits hold, in words.
    limits: str = ""
    #: How many primary processes the run has.
    primaries: int = 0


@frozen
class ProcessExited(Event):
    """A process exited."""

    host: str
    attempt: int
    key: str
    rank: int | None
    #: Its exit status, or minus the signal that killed it.
    code: int
    #: Whether launcher had asked it to exit.
    stopped: bool = False
    #: Whether the kernel killed a process for lack of memory just then.
    oom: bool = False
    #: Its memory limit in bytes, if it had exceeded that.
    limit: int = 0
    #: Message and traceback of torch's error file.
    error: Mapping[str, str] | None = None
    #: Whether torchrun may continue without it.
    tolerated: bool = False
    #: What the job does on such an exit: complete, fail or restart.
    action: str = ""

    @property
    def is_well(self) -> bool:
        """Whether the process exited successfully."""
        return self.action == "complete" or (self.code == 0 and not self.action)


@frozen
class StopRequested(Event):
    """Processes were asked to stop: everywhere, or on ``host``."""

    why: StopReason
    host: str | None = None
    processes: int = 0
    attempt: int | None = None
    #: Whether a launcher requested it; a host also does so on its own, when one of its ranks fails.
    asked: bool = False
    #: The other host that reported ``why``.
    origin: str | None = None
    #: What ``why`` leaves out, such as the reason of a restart.
    detail: str = ""


@frozen
class OrphansFound(Event):
    """Processes of the run outlived every rank of a host."""

    host: str
    processes: tuple[Mapping[str, Any], ...]


@frozen
class OrphansEnded(Event):
    """Those processes were stopped."""

    host: str
    processes: int


@frozen
class GpusUsed(Event):
    """GPUs on which processes of the run were seen by ``nvidia-smi``."""

    host: str
    gpus: tuple[int, ...]


@frozen
class StallBegan(Event):
    """No rank of a host has written output or used a CPU or GPU for ``seconds``.

    Each of ``ranks`` has key, rank, pid, silent (seconds since its last log byte), cpu (seconds used
    in total), bytes (of its logs) and last (their last line).
    """

    host: str
    seconds: float
    ranks: tuple[Mapping[str, Any], ...]
    attempt: int | None = None


@frozen
class StallEnded(Event):
    """A rank of the host makes progress again."""

    host: str
    seconds: float
    attempt: int | None = None


@frozen
class RunStalled(Event):
    """All hosts of the run stall at once. ``host`` and ``rank`` (or ``key``, the process of a role)
    name the one that is behind, if that is known; ``why`` says how."""

    seconds: float
    host: str | None = None
    rank: int | None = None
    silent: float = 0.0
    last: str = ""
    why: str = ""
    key: str = ""

    @property
    def behind(self) -> str:
        """Return which rank is behind, as a sentence."""
        if self.host is None:
            return "cannot tell which rank is behind"
        who = self.key or (f"rank {self.rank}" if self.rank is not None else "")
        who = f"{self.host} {who}".strip()
        return f"{who} is behind: {self.why}"


@frozen
class TracebackSeen(Event):
    """A process has not ended, though the last that it wrote to stderr is an exception that nobody
    caught: ``line``."""

    host: str
    key: str
    rank: int | None
    line: str
    attempt: int | None = None


@frozen
class StacksTaken(Event):
    """A host has written the stacks of its ranks to files. ``over`` has the processes whose script is
    over or in its last line, by key, each with a code of `Over`."""

    host: str
    files: int
    over: Mapping[str, str] = field(default_factory=dict)
