"""Files of ours on this machine, JSON for the most part: each appears whole or not at all.

Each is written under a temporary name and renamed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ..spec.errors import RecordError, UnreadableRecord
from ..spec.files import open_plain
from ..spec.home import make_home
from ..spec.packed import Rows
from ..spec.typed_json import from_json
from . import formats

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises OSError or ValueError."""
    try:
        with open_plain(path) as file:
            return json.loads(file.read().decode("utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def read_as(kind: type[T], path: Path) -> T | None:
    """Return a JSON file as a ``kind``; None when it is missing or damaged. For files that are
    optional."""
    try:
        return from_json(kind, read_json(path))
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> Any:
    """Return the value in a JSON file, or None where it is missing. Raises UnreadableRecord."""
    try:
        with open_plain(path) as file:
            return formats.parse(file.read(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableRecord(str(path), str(error.strerror)) from None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all. Raises OSError."""
    pieces = json.JSONEncoder(indent=2, ensure_ascii=False, default=_Rows).iterencode(value)
    _write(path, chain((piece.encode("utf-8", "backslashreplace") for piece in pieces), [b"\n"]))


class _Rows(list[object]):
    """Rows as a list, which JSON takes one after the other."""

    def __init__(self, rows: object) -> None:
        if not isinstance(rows, Rows):
            raise TypeError(f"{type(rows).__name__} cannot be part of a record")
        super().__init__()
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[object]:
        return iter(self._rows)


def write_record(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all. Raises RecordError."""
    try:
        write_json(path, value)
    except OSError as error:
        raise RecordError(path, error) from None


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    _write(path, [data])


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_at_home(name: str, text: str) -> None:
    """Write a file of :func:`home` that this user alone may read. Raises OSError."""
    write(make_home() / name, text.encode("utf-8", "backslashreplace"))
