"""The format of everything under ``~/.launcher``: its version, who wrote it, and how it is read.

``version`` in a record is the format's major version. It grows only when a field changes its
meaning, so a reader refuses a newer one. New fields do not change it: an older launcher ignores
them, and a newer one has a default for each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from ..spec.errors import NewerRecord, UnreadableRecord
from ..spec.typed_json import Mismatch, from_json
from ..spec.version import __version__

T = TypeVar("T")

VERSION = 1


def stamp() -> dict[str, Any]:
    """Return the fields that every record starts with."""
    return {"version": VERSION, "launcher": __version__}


def read_record(kind: type[T], value: object, file: object) -> T:
    """Return the record that ``file`` holds as a ``kind``.

    Raises NewerRecord, or UnreadableRecord naming file and field.
    """
    check_version(value, file)
    try:
        return from_json(kind, value)
    except Mismatch as error:
        raise UnreadableRecord(str(file), str(error)) from None


def check_version(value: object, file: object) -> Mapping[str, Any]:
    """Return the record if this version can read it. Versions are compared nowhere else.

    Raises NewerRecord, or UnreadableRecord when it is no record at all.
    """
    if not isinstance(value, Mapping):
        raise UnreadableRecord(str(file), "expected an object")
    version = value.get("version", VERSION)
    major = str(version).partition(".")[0]
    if not major.isdecimal():
        raise UnreadableRecord(str(file), f"version: {version!r} is not a version")
    if int(major) > VERSION:
        raise NewerRecord(str(file), str(value.get("launcher") or "a newer version"), __version__)
    return value


def parse(data: bytes | str, file: object) -> Any:
    """Return the value of a JSON document. Raises UnreadableRecord."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableRecord(str(file), f"not JSON ({error})") from None
