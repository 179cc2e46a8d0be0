"""A program whose output is waited for bit by bit, while this process does other things."""

from __future__ import annotations

import os
import select
import time

from ..base.lean import signal
from ..base.protocol import not_started
from . import processes

#: Bytes that are kept of what one prints to either stream.
MOST = 1 << 20


class Heard:
    """A program that dies with this process. ``code`` is its exit code once it is over."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.code: int | None = None
        self._pid, self._begun = 0, time.monotonic()
        pipes = [os.pipe(), os.pipe()]
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            streams = [nothing, pipes[0][1], pipes[1][1]]
            self._pid = processes.start_with(processes.Launch(argv, env, "/"), streams)
        except OSError as error:
            self.code = not_started(error)
            os.write(pipes[1][1], str(error).encode())
        finally:
            for fd in (nothing, pipes[0][1], pipes[1][1]):
                os.close(fd)
        self._said = {pipes[0][0]: bytearray(), pipes[1][0]: bytearray()}
        self._open = set(self._said)

    def _text(self, which: int) -> str:
        return [*self._said.values()][which].decode("utf-8", "replace")

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._text(0)

    @property
    def err(self) -> str:
        """What it has printed to stderr."""
        return self._text(1)

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return time.monotonic() - self._begun

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, at most so long; return whether it is."""
        deadline = time.monotonic() + seconds
        while self._open:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([*self._open], [], [], left)[0]
            if not ready:
                return False
            for reader in ready:
                self._read(reader)
        while self._pid:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid, self.code = 0, processes.exit_code(status)
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(0.002)
        return True

    def _read(self, reader: int) -> None:
        piece = os.read(reader, 1 << 16)
        if piece:
            self._said[reader] += piece[: MOST - len(self._said[reader])]
        else:
            self._open.discard(reader)
            os.close(reader)

    def end(self) -> None:
        """Kill it, if it is not over, with all that it has started."""
        if self._pid:
            try:
                os.killpg(self._pid, signal.SIGKILL)
                self.code = processes.exit_code(os.waitpid(self._pid, 0)[1])
            except OSError:
                pass  # it has just ended
            self._pid = 0
        for reader in self._open:
            os.close(reader)
        self._open = set()
