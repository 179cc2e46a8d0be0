"""Why a process failed, for people and for programs. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from ..spec.frozen import frozen
from .reasons import EndReason, Reason


@frozen
class Failure:
    """The failure of one process: data, not an exception."""

    host: str
    key: str
    rank: int | None
    code: int
    oom: bool
    time: float
    error: Mapping[str, str] | None = None
    action: str = ""  # what the job does on such an exit: fail, restart
    limit: int = 0  # its memory limit in bytes, when it was killed for exceeding it

    @property
    def exit_code(self) -> int:
        """The exit status that a shell would show."""
        return self.code if self.code >= 0 else 128 - self.code

    @property
    def reason(self) -> Reason:
        """``exit-7``, ``signal-SIGSEGV`` or ``out-of-memory``."""
        if self.oom:
            return Reason(EndReason.OUT_OF_MEMORY)
        if self.code >= 0:
            return Reason(EndReason.EXIT, str(self.code))
        return Reason(EndReason.SIGNAL, signal_name(-self.code))

    @property
    def meaning(self) -> str:
        """How the process exited, as a phrase for people."""
        if self.limit:
            return f"killed for exceeding its {self.limit >> 20} MiB of memory"
        if self.oom:
            return "killed by the kernel, which was out of memory"
        if self.code < 0:
            return f"killed by {signal_name(-self.code)}"
        notes = {126: " (not executable)", 127: " (command not found)"}
        return f"exited with {self.code}{notes.get(self.code, '')}"


def signal_name(number: int) -> str:
    """Return the name of a signal: ``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
