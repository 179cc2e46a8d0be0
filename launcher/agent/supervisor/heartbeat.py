"""How long nobody who launches has been in touch with this host, against the run's lease time.

It measures with a clock that nobody can set.
"""

import time


class Contact:
    """``lease`` is how many seconds of silence a run survives; None is for ever."""

    def __init__(self, lease):
        self._lease = lease
        self._heard = time.monotonic()

    def renew(self):
        """Somebody who launches was heard just now."""
        self._heard = time.monotonic()

    @property
    def ends(self):
        """When the lease is over, by ``time.monotonic``, if nobody is heard."""
        return float("inf") if self._lease is None else self._heard + self._lease

    def expired(self, now):
        """The seconds of silence when the lease is over, told once; else None."""
        if now < self.ends:
            return None
        self._lease = None
        return now - self._heard
