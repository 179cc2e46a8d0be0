"""Read a duration. Pure."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def seconds(value: str) -> float:
    """Return a duration such as ``30``, ``30s``, ``5m`` or ``2h`` in seconds. Raises ValueError."""
    match = _DURATION.match(value)
    if not match:
        raise ValueError(f"not a duration: {value!r} (30s, 5m, 2h)")
    return float(match[1]) * _UNITS[match[2]]
