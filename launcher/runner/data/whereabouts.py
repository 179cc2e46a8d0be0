"""Which hosts had which version of a data set when it was last given to them: a note of this machine, by
which a run goes where its data is. A note may be wrong by now; then the data travels, as without one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ...records.record_files import read_as, write_json
from ...spec.data import DataSet, Version, on_a_host
from ...spec.frozen import frozen
from ...spec.model import Host
from ...spec.typed_json import to_json
from . import registry

#: Most hosts that are noted for a source, and most sources: those that were given last.
MOST = 1000


@frozen
class Had:
    """What a host had: the version, its bytes, and the seconds since the epoch when it was given."""

    version: str
    bytes: int
    time: float


@frozen
class _Note:
    source: str
    hosts: dict[str, Had]


def note(one: DataSet, hosts: Iterable[str], version: Version) -> None:
    """Note that hosts have a version of a set, as far as this machine lets us."""
    had = Had(version.version, version.bytes, time.time())
    with suppress(OSError):
        path = _path(one.source, make=True)
        if not path.exists():
            _forget_oldest(path.parent)
        noted = {**_hosts(path), **dict.fromkeys(hosts, had)}
        newest = sorted(noted, key=lambda name: noted[name].time)[-MOST:]
        write_json(path, to_json(_Note(one.source, {name: noted[name] for name in newest})))


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(0, len(files) - MOST + 1)]:
        path.unlink(missing_ok=True)


def nearest_first(hosts: Sequence[Host], sets: Iterable[DataSet]) -> tuple[Host, ...]:
    """Return hosts in their order, but those first for which the fewest bytes have to travel, as far as
    it is known: who has the newest version that was given to anybody, or an older one of it, or is where
    the source is."""
    there = dict.fromkeys((host.name for host in hosts), 0.0)
    for one in sets:
        for name, saved in _saved(one).items():
            if name in there:
                there[name] += saved
    return tuple(sorted(hosts, key=lambda host: -there[host.name]))


def _saved(one: DataSet) -> dict[str, float]:
    """Return by host how many bytes of a set need not travel to it."""
    noted = _hosts(_path(one.source))
    newest = max(noted.values(), key=lambda had: had.time, default=None)
    found = {
        name: had.bytes * (1.0 if newest and had.version == newest.version else 0.5)
        for name, had in noted.items()
    }
    if source := on_a_host(one.source):
        found[source[0]] = float(max([1, *(had.bytes for had in noted.values())]))
    return found


def _hosts(path: Path) -> dict[str, Had]:
    found = read_as(_Note, path)
    return dict(found.hosts) if found else {}


def _path(source: str, make: bool = False) -> Path:
    name = hashlib.sha256(os.fsencode(source)).hexdigest()[:32]
    folder = registry.make_folder("whereabouts") if make else registry.folder() / "whereabouts"
    return folder / f"{name}.json"
