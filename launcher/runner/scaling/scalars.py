"""Reads steps per second from TensorBoard files, if the tensorboard package is installed here.

Every scalar has the wall time of each of its steps; its value does not matter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from .rates import Number, of_steps

_READER = "tensorboard.backend.event_processing.event_accumulator"


class NoReader(Exception):
    """There are TensorBoard files, and no package here that reads them."""


def steps(folder: Path) -> list[Number]:
    """Return the steps per second of the scalar under ``folder`` that was written most often; none
    without files. Raises NoReader."""
    places = sorted({file.parent for file in folder.rglob("*.tfevents.*")})
    if not places:
        return []
    try:
        reader: Any = import_module(_READER)
    except ImportError:
        raise NoReader(
            "there are TensorBoard files; to read them, install the package tensorboard here"
        ) from None
    with _quiet():
        every = [points for place in places for points in _points(reader, place)]
    return max((of_steps(points, "scalars") for points in every), key=len, default=[])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorBoard's warnings off the screen meanwhile: its logger belongs to the program."""
    logger = logging.getLogger("tensorboard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _points(reader: Any, place: Path) -> list[list[tuple[float, int]]]:
    """Return the ``(time, step)`` points of every scalar in one folder."""
    events = reader.EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 0})
    try:
        events.Reload()
        tags = events.Tags()
        series = [events.Scalars(tag) for tag in tags.get("scalars", ())]
        series += [events.Tensors(tag) for tag in tags.get("tensors", ())]
    except Exception:  # whatever a library raises on a file that came from a host
        return []
    return [[(float(one.wall_time), int(one.step)) for one in points] for points in series]
