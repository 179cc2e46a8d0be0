"""Reads steps per second from TensorBoard files.

Every scalar has the wall time of each of its steps; its value does not matter.
"""

from __future__ import annotations

from pathlib import Path

from ...records.scalars import written
from .rates import Number, of_steps


def steps(folder: Path) -> list[Number]:
    """Return the steps per second of the scalar under ``folder`` that was written most often; none
    without files."""
    every = (of_steps(points, "scalars") for points in written(folder).values())
    return max(every, key=len, default=[])
