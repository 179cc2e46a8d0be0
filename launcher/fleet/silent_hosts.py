"""Remember hosts that did not answer lately, so that the next run does not wait for them.

This changes how long somebody waits, and nothing else: a file that is missing or too old does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..spec.home import home

#: Seconds for which a host that did not answer is expected not to answer.
LATELY = 900.0


def _mark(host: str) -> Path:
    return home() / "silent" / host


def note(host: str) -> None:
    """Remember that a host did not answer."""
    with suppress(OSError):
        _mark(host).parent.mkdir(mode=0o700, exist_ok=True)
        _mark(host).touch()


def forget(host: str) -> None:
    """Forget it: the host answers."""
    with suppress(OSError):
        _mark(host).unlink(missing_ok=True)


def lately(hosts: Iterable[str]) -> frozenset[str]:
    """Return those of these hosts that did not answer lately."""
    found = set()
    for host in hosts:
        with suppress(OSError):
            if 0 <= time.time() - _mark(host).stat().st_mtime < LATELY:
                found.add(host)
    return frozenset(found)
