"""What ``data.json`` says of the data sets of a run. Pure."""

from __future__ import annotations

from ..spec.frozen import frozen

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
