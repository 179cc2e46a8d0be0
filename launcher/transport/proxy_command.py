"""Run a ProxyCommand as ssh(1) does, and talk to the host through it.

asyncssh's own way takes what the command writes to stderr for the host's answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence

#: What is kept of what the command wrote to stderr, in bytes.
TAIL = 4096


class ProxyCommand:
    """A running command whose stdin and stdout are one end of ``socket``.

    It has a session of its own: Ctrl-C at the terminal is not for it.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Start it. Raises OSError."""
        self.socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
        self._tail = b""
        # A thread, and not the event loop: the command may outlive that.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def complaint(self) -> str:
        """Return the last line that it wrote to stderr, once it is over."""
        self._reader.join(1.0)
        lines = self._tail.decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """End it as ssh(1) does: by SIGHUP."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGHUP)
        self.socket.close()

    def wait(self) -> None:
        """Wait until it is over, and kill it where it takes more than a second."""
        self._reader.join(1.0)
        if self._reader.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stderr
        with self._process.stderr as stderr:
            while piece := os.read(stderr.fileno(), TAIL):
                self._tail = (self._tail + piece)[-TAIL:]
        self._process.wait()
