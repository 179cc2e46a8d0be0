"""Files of the workdir that a user asked for although they are no outputs: ``also.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...records.run_folder import read_as, write_json
from ...spec.errors import RecordError
from ...spec.frozen import frozen

NOTE = "also.json"


def ask_for(path: Path, also: Sequence[str]) -> None:
    """Ask that files of the workdir which are no outputs are brought, too, from now on.

    Raises RecordError.
    """
    file = path / NOTE
    try:
        write_json(file, {"paths": sorted({*asked_for(path), *also})})
    except OSError as error:
        raise RecordError(file, error) from None


def asked_for(path: Path) -> tuple[str, ...]:
    """Return the patterns of files of a run that are brought although they are no outputs."""
    return (read_as(_Also, path / NOTE) or _Also()).paths


@frozen
class _Also:
    """The contents of ``also.json``."""

    paths: tuple[str, ...] = ()
