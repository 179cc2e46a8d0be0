"""Commands that run in the background for a connection, one after the other, into one log."""

from __future__ import annotations

import os
import re

from ..base.lean import signal
from ..base.protocol import not_started
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bytes of the end of a log.
TAIL = 4000
#: What moves the cursor of a terminal, and colours.
_CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


class Steps:
    """Commands that die with this process. ``code`` is the exit code of the first that failed."""

    def __init__(
        self, commands: Iterable[list[str]], env: dict[str, str], folder: str, log: str
    ) -> None:
        self.code, self.log = 0, log
        self._left, self._env, self._folder = list(commands), env, folder
        self._pid = 0

    def go_on(self) -> bool:
        """Return whether there is more to wait for; begin the next command where there is one."""
        while True:
            if self._pid:
                code = self._ended()
                if code is None:
                    return True
                self._pid, self.code = 0, code
            if self.code or not self._left:
                return False
            argv = self._left.pop(0)
            try:
                self._pid = self._started(argv)
            except OSError as error:
                with open(self.log, "a") as file:
                    file.write("cannot start %s: %s\n" % (argv[0], error.strerror))
                self.code = not_started(error)

    def _started(self, argv: list[str]) -> int:
        """Start a command; return its pid. Raises OSError."""
        launch = processes.Launch(argv, self._env, self._folder, None)
        return processes.start(launch, self.log, self.log)

    def _ended(self) -> int | None:
        """Return the exit code of the command that runs, or None."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return processes.exit_code(status) if pid else None

    def kill(self) -> None:
        """Kill the command that runs, with all that it has started."""
        if self._pid:
            try:
                os.killpg(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            except OSError:
                pass  # it has just ended
            self._pid = 0

    def tail(self) -> str:
        """Return the end of what was printed."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read(TAIL).decode("utf-8", "replace")
        except OSError:
            return ""

    def said(self) -> str:
        """Return the last line that was printed."""
        lines = [line.strip() for line in _CONTROL.sub("", self.tail()).splitlines()]
        return next((line for line in reversed(lines) if line), "")[:300]
