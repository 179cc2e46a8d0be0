"""The data sets that this machine knows by name, in ``~/.launcher/data/sets``."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from ...records.record_files import read_as, write_json, write_record
from ...spec.data import DataSet, Version
from ...spec.errors import InputError, RecordError, suggestion
from ...spec.frozen import frozen
from ...spec.home import home, make_home
from ...spec.typed_json import to_json


@frozen
class KnownSet:
    """A data set by its name: its source, and the version that it had when it was last read, at
    ``read`` seconds since the epoch."""

    name: str
    source: str
    version: Version
    read: float
    to: str = ""
    credential: str = ""


def folder() -> Path:
    """Return where this machine keeps what it knows of data sets."""
    return home() / "data"


def make_folder(name: str) -> Path:
    """Return one of the folders there, made if it is missing. Raises OSError."""
    place = make_home() / "data" / name
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def known() -> list[KnownSet]:
    """Return all data sets that were added, by name."""
    place = folder() / "sets"
    files = sorted(place.glob("*.json")) if place.is_dir() else []
    found = (read_as(KnownSet, file) for file in files)
    return [one for one in found if one is not None]


def find(name: str) -> KnownSet:
    """Return the data set of that name. Raises InputError."""
    found = read_as(KnownSet, folder() / "sets" / f"{name}.json") if "/" not in name else None
    if found is None:
        near = suggestion(name, [one.name for one in known()])
        raise InputError(
            f"no data set is called {name} here",
            near or f"launcher data add {name} SOURCE; launcher data ls shows those that there are",
        )
    return found


def save(one: KnownSet) -> None:
    """Keep a data set under its name. Raises RecordError."""
    try:
        write_record(make_folder("sets") / f"{one.name}.json", to_json(one))
    except OSError as error:
        raise RecordError(folder(), error) from None


def forget(name: str) -> None:
    """Forget a data set; its source and what hosts have of it stay. Raises InputError."""
    os.unlink(folder() / "sets" / f"{find(name).name}.json")


def note_of(source: str) -> Path:
    """Return the file that says which version a source had when it was last listed."""
    return make_folder("sums") / f"{hashlib.sha256(os.fsencode(source)).hexdigest()[:32]}.json"


def seen(source: str) -> tuple[str, Version] | None:
    """Return the fingerprint that a source had when it was last read, and its version; None if that
    cannot be relied on. It counts as used now."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = note_of(source)
        found = json.loads(note.read_text())
        version = Version(found["version"], found["files"], found["bytes"])
        os.utime(note)
        if found["fingerprint"] and (folder() / "manifests" / version.version).exists():
            return found["fingerprint"], version
    return None


def doubt(source: str) -> None:
    """Read a source again the next time, whatever its fingerprint is. Raises OSError."""
    note = note_of(source)
    before = read_as(Version, note)
    if before is not None:
        write_json(note, {"fingerprint": "", "source": source, **to_json(before)})


def settle(source: str, version: Version, fingerprint: str = "") -> None:
    """Note the version that a source has, and delete the manifest of the one that it had, unless another
    source has that. Raises OSError."""
    note = note_of(source)
    before = read_as(Version, note)
    write_json(note, {"fingerprint": fingerprint, "source": source, **to_json(version)})
    if before is None or before.version == version.version:
        return
    others = (read_as(Version, other) for other in note.parent.glob("*.json"))
    if all(other is None or other.version != before.version for other in others):
        (folder() / "manifests" / before.version).unlink(missing_ok=True)


def with_sources(sets: tuple[DataSet, ...]) -> tuple[DataSet, ...]:
    """Return the sets of a job, those without a source as they were added. Raises InputError."""
    return tuple(one if one.source else _as_added(one) for one in sets)


def _as_added(one: DataSet) -> DataSet:
    found = find(one.name)
    return DataSet(one.name, found.source, one.to or found.to, one.credential or found.credential)
