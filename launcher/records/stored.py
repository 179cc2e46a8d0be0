"""What ``stored.json`` says of outputs in an object store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from ..spec.frozen import frozen
from . import events as ev

FILE = "stored.json"
#: There for as long as the store does not have all.
UNSTORED = "unstored.json"


@frozen
class StoredFile:
    """A file of a host, as it is in the store: ``name`` is its path there."""

    name: str
    host: str
    path: str
    size: int
    time: int
    sum: str


@frozen
class Alone:
    """What a host had stored with no launcher in touch, at ``time`` in seconds since the epoch;
    ``problem``: why it could store nothing."""

    time: float
    files: int
    bytes: int
    missing: int = 0
    problem: str = ""


@frozen
class Begun:
    """What an object is written from, in parts of ``length`` bytes: a file of a host, as it was then."""

    host: str
    path: str
    size: int
    time: int
    length: int

    def size_of(self, number: int) -> int:
        """Return how many bytes a part has, by its number from 1; 0 beyond the last one."""
        return max(0, min(self.length, self.size - (number - 1) * self.length))


@frozen
class Stored:
    """How far outputs have come to a store at ``to``. ``begun`` are objects that are written in parts,
    with the names of their uploads, and ``begun_from`` what they are written from; ``missing`` says, by
    host, what is not there and why. ``whole``: all of it is there, and so is the manifest that says so.
    ``alone``: what hosts stored by themselves."""

    to: str
    files: tuple[StoredFile, ...] = ()
    begun: Mapping[str, str] = field(default_factory=dict)
    begun_from: Mapping[str, Begun] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    alone: Mapping[str, Alone] = field(default_factory=dict)


def stored_alone(events: Iterable[ev.Event]) -> dict[str, Alone]:
    """Return what hosts have reported of that, the latest of each."""
    return {
        one.host: Alone(one.time, one.files, one.bytes, one.missing, one.problem)
        for one in events
        if isinstance(one, ev.StoredAlone)
    }
