"""Data sets: known here by name, and brought to hosts by content."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..runner import credentials
from ..runner.concurrency import limited
from ..runner.data import listing, reading, registry
from ..runner.data.errands import (
    DataExamined,
    DataFreed,
    DataKept,
    DataSets,
    DataThere,
    Place,
)
from ..runner.data.registry import KnownSet
from ..runner.listeners import OnEvent, ignore_event
from ..spec import credentials as names
from ..spec import data
from ..spec.data import DataSet, Version, byte_count, on_a_host
from ..spec.errors import HostError, InputError
from ..spec.model import Inventory

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
    "on_a_host",
    "push",
]


async def add(
    name: str,
    source: str,
    to: str = "",
    on_event: OnEvent = ignore_event,
    place: Place | None = None,
    credential: str = "",
) -> KnownSet:
    """Read a source, as far as it has changed, and keep it under a name; a path is relative to the
    current folder. ``on_event`` gets SourceRead. A folder of a host needs a ``place`` with its
    inventory. A store is read with the ``credential`` of that name. Raises InputError, LauncherError.
    """
    one = replace(_set(name, source, to), credential=credential)
    if one.shared_path:
        raise InputError(
            f"{source} is a folder that the hosts already have: there is nothing to keep under a name",
            f"use it where it is: launcher run --data {name}={source}, or data: in a job",
        )
    if credential:
        _check_credential(one)
    if place is None and on_a_host(source):
        raise InputError(f"{source} is on a host, and there is no inventory", "name one with -i")
    place = place or Place(Inventory(()), ())
    return _keep(one, await reading.read(one.name, one.source, on_event, place.reach, credential))


def _check_credential(one: DataSet) -> None:
    """Raise InputError for a credential that cannot be used for this set."""
    if not one.is_in_store:
        raise InputError(
            f"--credential {one.credential}: {names.NO_STORE}, and {one.source} is none",
            "leave it out",
        )
    try:
        credentials.require_for(one.credential, one.source)
    except InputError as error:
        raise InputError(f"--credential: {error.message}", error.hint) from None


def _set(name: str, source: str, to: str) -> DataSet:
    try:
        one = DataSet(data.name(name), data.source(source), data.to(to) if to else "")
    except ValueError as error:
        raise InputError(str(error)) from None
    here = os.path.abspath(Path(source).expanduser()) if one.is_here else source
    return DataSet(one.name, here, one.to)


def _keep(one: DataSet, found: listing.Listed) -> KnownSet:
    kept = KnownSet(one.name, one.source, found.version, time.time(), one.to, one.credential)
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
    place: Place, name: str, on_event: OnEvent = ignore_event, max_rate: int = 0
) -> tuple[KnownSet, Mapping[str, int | HostError]]:
    """Read a source again, and bring what it holds now to hosts; return the version, and by host the
    bytes that travelled. From here, at most ``max_rate`` bytes a second go to all together (0: no
    limit). Raises InputError."""
    found = registry.find(name)
    one = DataSet(found.name, found.source, found.to, found.credential)
    if one.credential:
        credentials.require_for(one.credential, one.source)
    now = found

    async def read() -> listing.Listed:
        nonlocal now
        listed = await reading.read(one.name, one.source, on_event, place.reach, one.credential)
        now = _keep(one, listed)
        return listed

    with limited(max_rate):
        done = await place.push(one, read(), on_event)
    return now, done
