"""Room for new versions of data sets on a host."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.agent.base import manifest, protocol
from launcher.agent.relay import disk as disk_module
from launcher.agent.relay.data import house, store
from launcher.agent.relay.data.store import DataStore

MIB = 1 << 20


class Disk:
    """A disk of so many bytes, on which only data sets are. They are used at moments far apart."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        self._root, self._size, self._clock = root, size, 0
        self.root, self.limit = root, 0
        self.store = DataStore(str(root), lambda *_: None)
        monkeypatch.setattr(store.os, "statvfs", self._free)
        monkeypatch.setattr(house, "MARGIN", 0.0)

    def _free(self, _path: str) -> SimpleNamespace:
        sets = (file for file in self._root.rglob("files/**/*") if file.is_file())
        used = {file.stat().st_ino: file.stat().st_size for file in sets}
        return SimpleNamespace(f_bavail=self._size - sum(used.values()), f_frsize=1, f_blocks=0)

    def bring(self, name: str, **files: bytes) -> str:
        """Bring a version by a process of its own, and return its name. Raises Refused."""
        entries = [
            manifest.Entry(path.encode(), len(data), False, _sum(data))
            for path, data in sorted(files.items())
        ]
        text = manifest.HEADER + b"".join(map(manifest.encode, entries))
        version = hashlib.sha256(text).hexdigest()[: manifest.LENGTH]
        bringing = DataStore(str(self._root), lambda *_: None)
        size = sum(map(len, files.values()))
        begun = bringing.begin(version, name, size, len(files), self.limit)
        place = Path(begun["folder"])
        (place / version).write_bytes(text)
        if begun["base"]:
            begun = bringing.room(version)
        for path, data in files.items():
            base = Path(begun["base"]) / path
            if begun["base"] and base.exists() and base.read_bytes() == data:
                os.link(base, place / "files" / path)  # as rsync does
            else:
                (place / "files" / path).write_bytes(data)
        assert bringing.seal(version)["count"] == 0
        bringing._unlock(version)
        self._clock += 1000
        os.utime(self._root / "data" / version, (self._clock, self._clock))
        return version

    @property
    def there(self) -> set[str]:
        """The versions that are there."""
        return {str(one["version"]) for one in self.store.listed()}


def _sum(data: bytes) -> bytes:
    return manifest.SHA256 + hashlib.sha256(data).hexdigest().encode()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch, 10 * MIB)


def test_a_new_version_shares_with_the_last_one(disk: Disk) -> None:
    """One of its files has changed: the rest takes no room, and nothing is deleted."""
    first = disk.bring("corpus", large=bytes(6 * MIB), small=b"1" * MIB)
    second = disk.bring("corpus", large=bytes(6 * MIB), small=b"2" * MIB)
    assert disk.there == {first, second}


def test_what_is_shared_is_deleted_last(disk: Disk) -> None:
    """Another set goes, which was used after it."""
    first = disk.bring("corpus", large=bytes(6 * MIB), small=b"1" * MIB)
    disk.bring("faces", a=b"a" * 2 * MIB)
    second = disk.bring("corpus", large=bytes(6 * MIB), small=b"2" * 2 * MIB)
    assert disk.there == {first, second}


def test_a_version_that_shares_nothing_takes_the_place_of_the_last_one(disk: Disk) -> None:
    disk.bring("corpus", large=b"1" * 6 * MIB)
    second = disk.bring("corpus", large=b"2" * 6 * MIB)
    assert disk.there == {second}
    with pytest.raises(protocol.Refused, match="nothing more can be removed"):
        disk.bring("corpus", large=b"3" * 11 * MIB)


def test_a_limit_is_kept_by_what_was_unused_for_longest(disk: Disk) -> None:
    """Never by what is in use or pinned, nor by what has just come; one more, and they may take more."""
    oldest = disk.bring("a", large=b"a" * 2 * MIB)
    pinned = disk.bring("b", large=b"b" * 2 * MIB)
    DataStore(str(disk.root), lambda *_: None).pin(pinned, True)
    held = DataStore(str(disk.root), lambda *_: None)
    used = disk.bring("c", large=b"c" * 2 * MIB)
    assert held.use_if_here(used)
    disk.limit = 7 * MIB
    fourth = disk.bring("d", large=b"d" * 2 * MIB)
    assert disk.there == {pinned, used, fourth}, f"{oldest} went"
    fifth = disk.bring("e", large=b"e" * 2 * MIB)
    assert disk.there == {pinned, used, fifth}
    disk.limit = MIB
    changed = disk.bring("e", large=b"e" * 2 * MIB, small=b"1")
    assert disk.there == {pinned, used, changed}
    held._unlock(used)
    last = disk.bring("f", small=b"2")
    assert disk.there == {pinned, last}


def test_a_version_is_on_the_disk_before_it_looks_whole(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few files, nothing that others have written is waited for."""
    flushed: list[int] = []
    monkeypatch.setattr(store.os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))
    monkeypatch.setattr(disk_module, "_sync_all", lambda place: flushed.append(-1) or True)
    place = disk.root / "data" / disk.bring("few", a=b"1", b=b"2")
    assert {path.stat().st_ino for path in (place, *place.rglob("*"))} <= set(flushed)
    assert -1 not in flushed
    flushed.clear()
    disk.bring("many", **{f"f{number}": b"x" for number in range(200)})
    assert flushed == [-1]
