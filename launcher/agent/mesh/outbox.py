"""What one host still has to tell another one of shared folders: paths, each once, in order. Pure.

Only the newest state of a path counts, so a host that is away for an hour costs a list of paths.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Dict, List

#: Changes that are sent before the first of them is acknowledged.
WINDOW = 64


class Outbox:
    """Paths to send, and paths that were sent and not acknowledged yet."""

    def __init__(self) -> None:
        self._waiting: Dict[str, None] = {}
        self._sent: List[str] = []

    def __bool__(self) -> bool:
        return bool(self._waiting or self._sent)

    def __contains__(self, path: str) -> bool:
        return path in self._waiting or path in self._sent

    def add(self, paths: Iterable[str]) -> None:
        """Send these after all others."""
        for path in paths:
            self._waiting.pop(path, None)
            self._waiting[path] = None

    def drop(self, path: str) -> None:
        """Do not send a path: the other host has a newer one."""
        self._waiting.pop(path, None)

    def next(self) -> str | None:
        """Return the path to send next, and expect its acknowledgement; None for nothing to send now."""
        if not self._waiting or len(self._sent) >= WINDOW:
            return None
        path = next(iter(self._waiting))
        del self._waiting[path]
        self._sent.append(path)
        return path

    def acknowledged(self) -> str | None:
        """Return the path that the other host has answered: the first of those that were sent."""
        return self._sent.pop(0) if self._sent else None

    def disconnected(self) -> None:
        """Send again what was not acknowledged, before all others."""
        again = [path for path in self._sent if path not in self._waiting]
        self._sent = []
        self._waiting = dict.fromkeys([*again, *self._waiting])
