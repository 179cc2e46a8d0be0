"""What ``data.json`` says of the data sets of a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..spec.frozen import frozen
from ..spec.typed_json import to_json

FILE = "data.json"


@frozen
class UsedSet:
    """A data set that a run used: its source when it started, and the version of its content."""

    name: str
    source: str
    version: str
    files: int
    bytes: int
    to: str = ""
    credential: str = ""


def describe(sets: Iterable[UsedSet]) -> list[dict[str, Any]]:
    """Return ``data.json``; only a credential that there is stands in it, by its name."""
    values = ((one, to_json(one)) for one in sets)
    return [
        {key: value for key, value in its.items() if key != "credential" or one.credential}
        for one, its in values
    ]
