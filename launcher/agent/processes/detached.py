"""Processes that outlive the one that starts them: no child of it, and in a session of their own."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container


class Beginning:
    """The pipe by which such a process says once whether it has begun."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._is_told = False

    def tell(self, problem: str = "") -> None:
        """Say that it has begun, or why it cannot; only the first time counts."""
        if not self._is_told:
            self._is_told = True
            os.write(self.descriptor, (problem or "ready").encode())
            os.close(self.descriptor)


def start(be: Callable[[Beginning], None]) -> str:
    """Call ``be`` in a detached process, which exits when that returns; wait until it says that it has
    begun. Return "", or why it has not begun."""
    ready, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready)
            os.setsid()
            if os.fork() == 0:
                be(Beginning(writer))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(ready, "rb") as pipe:
        answer = pipe.read().decode()
    return "" if answer == "ready" else answer or "it exited at once"


def close_all(but: Container[int]) -> None:
    """Close all descriptors but the standard streams and these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in but:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself
