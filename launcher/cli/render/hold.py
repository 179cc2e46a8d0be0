"""Hold back what may soon be said of several hosts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Hold:
    """Calls ``show`` once nothing came for ``quiet`` seconds, at the latest after ``most`` seconds."""

    def __init__(self, quiet: float, most: float, show: Callable[[], None]) -> None:
        self.quiet, self.most, self._show = quiet, most, show
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> None:
        """Show what is held, but not yet: something was added."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._since = loop.time()
        elif self.quiet == self.most:
            return
        else:
            self._timer.cancel()
        when = min(loop.time() + self.quiet, self._since + self.most)
        self._timer = loop.call_at(when, self.end)

    def end(self) -> None:
        """Show what is held, now."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._show()
