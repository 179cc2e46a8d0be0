"""How long nobody who launches has been in touch with this host, against the run's orphan timeout.

It measures with a clock that nobody can set.
"""

import time


class Contact:
    """``orphan_timeout`` is how many seconds of silence a run survives; None is for ever."""

    def __init__(self, orphan_timeout):
        self._timeout = orphan_timeout
        self._heard = time.monotonic()

    def renew(self):
        """Somebody who launches was heard just now."""
        self._heard = time.monotonic()

    @property
    def ends(self):
        """When the run is orphaned, by ``time.monotonic``, if nobody is heard."""
        return float("inf") if self._timeout is None else self._heard + self._timeout

    def expired(self, now):
        """The seconds of silence when the run is orphaned, told once; else None."""
        if now < self.ends:
            return None
        self._timeout = None
        return now - self._heard
