"""Data sets: known here by name, and brought to hosts by content."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from ..runner.data import listing, registry
from ..runner.data.errands import (
    DataExamined,
    DataFreed,
    DataKept,
    DataSets,
    DataThere,
    Place,
)
from ..runner.data.host import Delivered
from ..runner.data.registry import KnownSet
from ..runner.listeners import OnEvent, ignore_event
from ..spec import data
from ..spec.data import DataSet, Version, byte_count
from ..spec.errors import HostError, InputError

__all__ = [
    "DataExamined",
    "DataFreed",
    "DataKept",
    "DataSets",
    "DataThere",
    "HostError",
    "KnownSet",
    "Place",
    "Version",
    "add",
    "byte_count",
    "find",
    "forget",
    "known",
    "push",
]


def add(name: str, source: str, to: str = "") -> KnownSet:
    """Read a source and keep it under a name; a path is relative to the current folder.

    Blocks for as long as it takes to read what has changed. Raises InputError, LauncherError.
    """
    try:
        one = DataSet(data.name(name), data.source(source), data.to(to) if to else "")
    except ValueError as error:
        raise InputError(str(error)) from None
    if one.is_here:
        source = os.path.abspath(Path(source).expanduser())
    return _keep(DataSet(one.name, source, one.to), listing.read_source(source))


def _keep(one: DataSet, found: listing.Listed) -> KnownSet:
    kept = KnownSet(one.name, one.source, found.version, time.time(), one.to)
    registry.save(kept)
    return kept


def known() -> list[KnownSet]:
    """Return the data sets that were added here."""
    return registry.known()


def find(name: str) -> KnownSet:
    """Return the data set of that name, as it was when it was last read. Raises InputError."""
    return registry.find(name)


def forget(name: str) -> None:
    """Forget a name; the source stays, and so does what hosts have. Raises InputError."""
    registry.forget(name)


async def push(
    place: Place, name: str, on_event: OnEvent = ignore_event
) -> tuple[KnownSet, Mapping[str, int | HostError]]:
    """Read a source again, and bring what it holds now to hosts; return the version, and by host the
    bytes that travelled. Raises InputError."""
    from ..runner.concurrency import in_own_thread

    found = registry.find(name)
    one = DataSet(found.name, found.source, found.to)
    listed = await in_own_thread(lambda on_read: listing.read_source(one.source, on_read))
    now = _keep(one, listed)
    return now, await place.push(Delivered(one, listed), on_event)
