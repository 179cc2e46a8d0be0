"""Read durations. Pure."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from ..spec.durations import seconds as seconds


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


#: How far ahead a moment may be, in days.
FARTHEST = 30


def moment(value: str, now: float) -> float:
    """Return when it is ``14:00`` next, or ``2026-11-28 14:00``, in seconds since the epoch.

    Raises ValueError, also for a moment that is over, or more than a month ahead.
    """
    today = datetime.fromtimestamp(now)
    try:
        if re.fullmatch(r"\d{1,2}:\d\d", value):
            at = datetime.combine(today, datetime.strptime(value, "%H:%M").time())
            at += timedelta(days=at <= today)
        else:
            at = datetime.strptime(value.replace("T", " "), "%Y-%m-%d %H:%M")
    except ValueError:
        raise ValueError(f"not a time: {value!r}") from None
    if at <= today:
        raise ValueError(f"{value} is over: it is {today:%H:%M} on {today:%Y-%m-%d}")
    if at > today + timedelta(days=FARTHEST):
        raise ValueError(f"{value} is more than {FARTHEST} days ahead")
    return at.timestamp()
