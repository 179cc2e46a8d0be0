"""Curves for a terminal, several lines high, in the dots of braille letters. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: The dots of a letter, from the top, in its left and its right column (ISO/TR 11548-1).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BLANK = 0x2800


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return a curve of this size with its greatest and least value at the left; what is no number is a
    gap. Returns nothing where there is no number, or no room."""
    known = [value for value in values if math.isfinite(value)]
    if not known or height < 2:
        return []
    least, most = min(known), max(known)
    marks = [f"{most:.3g}", *[""] * (height - 2), f"{least:.3g}"]
    left = max(map(len, marks))
    room = width - left - 2
    if room < 2:
        return []
    return [
        f"{mark:>{left}} {'┤' if mark else '│'}{line}"
        for mark, line in zip(marks, _curve(values, least, most, room, height), strict=True)
    ]


def _curve(
    values: Sequence[float], least: float, most: float, width: int, height: int
) -> list[str]:
    cells = [[0] * width for _ in range(height)]
    rows, columns = 4 * height, 2 * width
    # Halves, since the difference of two numbers may be too large for one.
    span = most / 2 - least / 2
    before: int | None = None
    for x in range(columns):
        y = _height(_at(values, x, columns), least, span, rows)
        if y is None:
            before = None
            continue
        near = y if before is None else before + (y > before) - (y < before)
        for each in range(min(y, near), max(y, near) + 1):
            cells[each // 4][x // 2] |= _DOTS[x % 2][each % 4]
        before = y
    return ["".join(chr(_BLANK + cell) for cell in row) for row in cells]


def _at(values: Sequence[float], x: int, columns: int) -> float:
    """Return the value at a column: the mean of those that share it, or between those that do not."""
    count = len(values)
    if count > columns:
        piece = [
            value
            for value in values[x * count // columns : (x + 1) * count // columns]
            if math.isfinite(value)
        ]
        return sum(value / len(piece) for value in piece) if piece else math.nan
    place = x * (count - 1) / max(1, columns - 1)
    first = min(int(place), count - 1)
    second = min(first + 1, count - 1)
    share = place - first
    return values[first] * (1 - share) + (values[second] * share if share else 0.0)


def _height(value: float, least: float, span: float, rows: int) -> int | None:
    """Return the row of a value, from the top."""
    if not math.isfinite(value):
        return None
    share = (value / 2 - least / 2) / span if span > 0 else 0.5
    return round((1 - min(1.0, max(0.0, share))) * (rows - 1))
