"""Files of the workdir that a user asked for although they are no outputs: ``also.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...records.record_files import read_as, write_record
from ...spec.frozen import frozen

NOTE = "also.json"


def ask_for(path: Path, also: Sequence[str]) -> None:
    """Ask to bring files of the workdir that are not outputs, too, from now on.

    Raises RecordError.
    """
    write_record(path / NOTE, {"paths": sorted({*asked_for(path), *also})})


def asked_for(path: Path) -> tuple[str, ...]:
    """Return the patterns of files of a run that are brought although they are not outputs."""
    return (read_as(_Also, path / NOTE) or _Also()).paths


@frozen
class _Also:
    """The contents of ``also.json``."""

    paths: tuple[str, ...] = ()
