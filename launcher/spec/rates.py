"""Read rates. Pure."""

from __future__ import annotations

import re

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)(B|bit)(?:/s|ps)\Z")
#: The least that rsync's limit can tell apart, for four copies at once.
LEAST_RATE = 10_000


def rate(value: str) -> int:
    """Return the bytes a second that ``50MB/s``, ``20MiB/s`` or ``400Mbit/s`` means; 0 for ``none``.

    Raises ValueError.
    """
    if value.strip() == "none":
        return 0
    found = _RATE.match(value.strip())
    if not found or (found[3] and not found[2]):
        raise ValueError(f"not a rate: {value!r} (50MB/s, 400Mbit/s)")
    power = " kMGT".index(found[2] or " ")
    many = float(found[1]) * (1024 if found[3] else 1000) ** power
    count = int(many / 8 if found[4] == "bit" else many)
    if count < LEAST_RATE:
        raise ValueError(f"{value} is less than 10kB/s: leave it out for no limit")
    return count
