"""The checkpoints of a run that are kept on this machine: each is whole, or not there.

::

    RUN/checkpoints/000001/<host>/...     the files of each host; unchanged ones are links to one file
    RUN/checkpoints/000001/manifest.json  which they are: written last, before the folder gets its name
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ...records.record_files import read_as, write_record
from ...spec.errors import RecordError
from ...spec.frozen import frozen
from ...spec.typed_json import Mismatch, to_json
from ...transport.answers.outputs import is_inside

FOLDER, MANIFEST = "checkpoints", "manifest.json"
#: Where one is made: nothing else there is not whole.
NEW = ".new"
#: How many are kept: the newest ones.
KEPT = 2


@frozen
class File:
    """A file of a checkpoint. ``name`` and ``sum`` are those in a store."""

    host: str
    path: str
    size: int
    time: int
    name: str = ""
    sum: str = ""

    def __post_init__(self) -> None:
        if not (is_inside(self.path) and is_inside(self.host) and self.size >= 0):
            raise Mismatch("it names a file that leads elsewhere", "path")


@frozen
class Checkpoint:
    """All files below ``path`` at one moment, in seconds since the epoch."""

    number: int
    time: float
    path: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(one.size for one in self.files)


def newest(run: Path) -> tuple[Path, Checkpoint] | None:
    """Return the newest checkpoint of a run that is here, and its folder."""
    for place in sorted((run / FOLDER).glob("[0-9]*"), key=lambda one: -int(one.name)):
        found = read_as(Checkpoint, place / MANIFEST)
        if found is not None:
            return place, found
    return None


def begin(new: Path) -> None:
    """Make an empty folder for a new one. Raises OSError."""
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)


def conclude(new: Path, made: Checkpoint) -> None:
    """Give a checkpoint its name, and delete those that are too old. Raises RecordError."""
    try:
        shutil.rmtree(new / "incoming", ignore_errors=True)
        write_record(new / MANIFEST, to_json(made))
        os.rename(new, new.with_name(f"{made.number:06}"))
        older = sorted(new.parent.glob("[0-9]*"), key=lambda one: -int(one.name))[KEPT:]
        for place in older:
            (place / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise RecordError(new, error) from None
