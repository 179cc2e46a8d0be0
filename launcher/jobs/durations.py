"""Read durations. Pure."""

from __future__ import annotations

import math
import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def seconds(value: str) -> float:
    """Return a duration such as ``30``, ``30s``, ``5m`` or ``2h`` in seconds. Raises ValueError."""
    match = _DURATION.match(value)
    if not match:
        raise ValueError(f"not a duration: {value!r} (30s, 5m, 2h)")
    return float(match[1]) * _UNITS[match[2]]


def more_than_nothing(value: str) -> float:
    """Return a duration that is more than 0. Raises ValueError."""
    found = seconds(value)
    if found <= 0:
        raise ValueError(f"{value}: must be more than 0; leave it out for never")
    return found


def wait_time(value: str) -> float:
    """Return how long to wait: a duration, or infinity for ``forever``. Raises ValueError."""
    if value == "forever":
        return math.inf
    try:
        return seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or forever") from None
