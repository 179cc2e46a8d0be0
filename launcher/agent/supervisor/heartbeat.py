"""How long no launcher has been in touch with this host, against the run's orphan timeout."""

from __future__ import annotations


class Contact:
    """``orphan_timeout`` is how many seconds of silence a run survives; None is for ever.

    It is given the time, from a clock that nobody can set.
    """

    def __init__(self, orphan_timeout: float | None, now: float) -> None:
        self._timeout = orphan_timeout
        self._heard = now

    def renew(self, now: float) -> None:
        """Note that a launcher was heard."""
        self._heard = now

    @property
    def ends(self) -> float:
        """When the run is orphaned, if no launcher is heard."""
        return float("inf") if self._timeout is None else self._heard + self._timeout

    def expired(self, now: float) -> float | None:
        """Return the seconds of silence when the run is orphaned, once; else None."""
        if now < self.ends:
            return None
        self._timeout = None
        return now - self._heard
