"""Reads the answers of hosts as values with bounds, and has the bounds that all of them share."""

from __future__ import annotations

import re
from typing import TypeVar

from ...spec.addresses import is_address
from ...spec.errors import BadAnswer
from ...spec.typed_json import Mismatch, from_json

T = TypeVar("T")
#: Most GPUs, addresses, ports and processes that a host may name: beyond any machine.
MOST = 4096
#: Longest path of a file, in characters.
LONGEST_PATH = 4096
#: Longest message of a refusal, in characters: more than the longest path that it may name.
LONGEST_MESSAGE = 1 << 16
#: Latest moment that a host may name: the end of the year 9999.
LATEST = 253_402_300_799.0
#: Most tickets of waiting runs that a host names.
MOST_TICKETS = 512
#: Most damaged files, data sets, runs and users that a host names.
MOST_NAMED = 64
#: Most runs, versions of code and agents that a host names.
MOST_ENTRIES = 20_000
#: What the path of an archive or of a build's folder ends with: a plain name.
FILE = re.compile(r"/[A-Za-z0-9][A-Za-z0-9._-]{0,200}\Z")

_INTERFACE = re.compile(r"[\w.:@+~#=,%-]{1,64}\Z", re.A)
_FOLDER = re.compile(r"[^\x00-\x1f\x7f-][^\x00-\x1f\x7f]{0,4095}\Z")


def read(kind: type[T], host: str, op: str, answer: object) -> T:
    """Return the answer to a request as a ``kind``. Raises BadAnswer."""
    try:
        return from_json(kind, answer)
    except Mismatch as error:
        raise BadAnswer(host, f"its answer to {op}: {error}") from None


def require(fits: bool, field: str, problem: str) -> None:
    """Raise Mismatch with a problem of a field, unless the field fits."""
    if not fits:
        raise Mismatch(problem, field)


def require_address(value: str, field: str) -> None:
    """Raise Mismatch unless this is an IP address."""
    require(is_address(value), field, f"not an address: {value[:80]!r}")


def require_interface(value: str | None, field: str) -> None:
    """Raise Mismatch unless this is the name of a network interface, or None."""
    require(value is None or _INTERFACE.match(value) is not None, field, "not a network interface")


def require_port(value: int | None, field: str) -> None:
    """Raise Mismatch unless this is a port, or None."""
    require(value is None or 0 < value < 65536, field, f"not a port: {value}")


def require_folder(value: str, field: str) -> None:
    """Raise Mismatch unless this is the path of a folder."""
    require(_FOLDER.match(value) is not None, field, f"not a folder: {value[:80]!r}")


def require_moment(value: float, field: str) -> None:
    """Raise Mismatch unless this is a time, in seconds since the epoch."""
    require(0 <= value <= LATEST, field, "not a time")
