"""Starts the helper that shares folders of a run with its other hosts, see ``mesh/sharing.py``."""

from __future__ import annotations

import os
import sys

from ..base.journal import forget, write_private
from ..base.lean import Socket, prctl, signal
from ..base.tcp import listen, own_address
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..base.messages import ShareSpec

#: The agent's program, of which this module is a part.
PROGRAM = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "start.py"
)
#: The helper's private note: it removes it at once.
NOTE = "share.json"


class Sharer:
    """One helper, which outlives the supervisor until the other hosts have what was written here.

    Its environment has no mark of the run, so nothing takes it for a process of the run.
    """

    def __init__(self) -> None:
        self._helper: int | None = None
        self._listener: Socket | None = None

    def listen(self, host: str, spec: ShareSpec | None) -> None:
        """Listen for the other hosts, if this is the hub. Raises OSError."""
        if self._listener:
            self._listener.close()
            self._listener = None
        if spec and spec["hub"] == host:
            self._listener = listen(spec["port"], own_address(spec["address"]))

    def start(self, spec: ShareSpec) -> None:
        """Make the folders, and start the helper. Raises OSError."""
        for folder in spec["folders"]:
            os.makedirs(folder, exist_ok=True)
        write_private(NOTE, spec)
        listener = self._listener
        self._helper = os.fork()
        if self._helper == 0:
            _become_helper(listener.fileno() if listener else -1)
        self.listen("", None)

    @property
    def pids(self) -> set[int]:
        """The helper."""
        return set() if self._helper is None else {self._helper}

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the helper."""
        if pid != self._helper:
            return False
        self._helper = None
        return True

    def close(self) -> None:
        """Have the helper pass on what is left, and exit."""
        self.listen("", None)
        processes.send(self.pids, signal.SIGTERM)
        forget(NOTE)  # if it never started to read it


def _become_helper(listener: int) -> NoReturn:
    try:
        processes.forget_handlers()
        os.setsid()
        prctl(processes.PR_SET_PDEATHSIG, signal.SIGTERM)
        kept = max(listener, 3)
        os.closerange(3, kept)  # among them are the supervisor's locks
        os.closerange(kept + (listener >= 0), 1024)
        if listener >= 0:
            os.set_inheritable(listener, True)
        argv = [sys.executable, "-I", "-S", PROGRAM, "share", os.getcwd(), str(listener)]
        os.execv(sys.executable, argv)
    finally:
        os._exit(1)
