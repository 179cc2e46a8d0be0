"""The seal of a copy whose blocks have come from a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.agent.base import manifest
from launcher.agent.relay.data import examine, sums
from launcher.agent.relay.data.passing import DataPassing
from launcher.agent.relay.data.proving import Proving
from launcher.agent.relay.data.store import DataStore

FILES = {"a": b"first", "b": b"second", "c": b"third"}


@pytest.fixture
def begun(tmp_path: Path) -> tuple[DataPassing, Path, str]:
    """Return a copy whose files are all here, its folder, and its version."""
    entries = [
        manifest.Entry(
            name.encode(), len(data), False, manifest.ETAG + hashlib.md5(data).hexdigest().encode()
        )
        for name, data in FILES.items()
    ]
    text = manifest.HEADER + b"".join(map(manifest.encode, entries))
    version = hashlib.sha256(text).hexdigest()[: manifest.LENGTH]
    store = DataStore(str(tmp_path), lambda *_: None)
    place = Path(store.begin(version, "set", 16, len(FILES), 0)["folder"])
    (place / version).write_bytes(text)
    for name, data in FILES.items():
        (place / "files" / name).write_bytes(data)
    passing = DataPassing(store, lambda: None)
    passing._version, passing._copy, passing._passing = version, store.blocks(version), cast(Any, 1)
    return passing, place, version


def _read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of files that are read after their sums were noted."""
    found: list[str] = []
    digest = examine.digest

    def noted(path: str, *about: Any) -> str:
        found.append(Path(path).name)
        return digest(path, *about)

    monkeypatch.setattr(examine, "digest", noted)
    return found


def test_a_seal_reads_each_file_once(
    begun: tuple[DataPassing, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose sums were noted before are compared with them."""
    passing, place, version = begun
    first = b"sha256:%s a\0" % hashlib.sha256(FILES["a"]).hexdigest().encode()
    (place / "sums").write_bytes(first)
    again = _read_again(monkeypatch)
    assert passing.part_seal({"keyed": False}) == {"bad": [], "count": 0}
    assert again == ["a"]
    contents = list(sums.entries(str(place.parent / version), "contents"))
    assert [one.sum for one in contents] == [
        manifest.SHA256 + hashlib.sha256(data).hexdigest().encode() for data in FILES.values()
    ]


def test_a_seal_finds_what_differs(begun: tuple[DataPassing, Path, str]) -> None:
    passing, place, _ = begun
    (place / "files/b").write_bytes(b"sec0nd")
    (place / "files/c").write_bytes(b"thirds")
    assert passing.part_seal({"keyed": False})["bad"] == [
        ["b", "arrived with another sum than the store names"],
        ["c", "arrived with another sum than the store names"],
    ]
    (place / "files/b").write_bytes(FILES["b"])
    (place / "files/c").write_bytes(b"thirds")
    found = passing.part_seal({"keyed": True})
    assert found == {"bad": [["c", "has 6 bytes instead of 5"]], "count": 1}


LARGE = {"a": os.urandom(3_000_000), "b": b"", "c": b"small", "d": os.urandom(700_000)}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", [manifest.SHA256, manifest.ETAG])
def test_files_are_read_while_their_blocks_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, order: int
) -> None:
    """In whatever order they come, a seal reads nothing again; what arrived wrong is found."""

    def sum_of(data: bytes) -> bytes:
        taken = hashlib.sha256(data) if kind == manifest.SHA256 else hashlib.md5(data)
        return kind + taken.hexdigest().encode()

    entries = [manifest.Entry(n.encode(), len(d), False, sum_of(d)) for n, d in LARGE.items()]
    text = manifest.HEADER + b"".join(map(manifest.encode, entries))
    version = hashlib.sha256(text).hexdigest()[: manifest.LENGTH]
    store = DataStore(str(tmp_path), lambda *_: None)
    store.begin(version, "set", sum(map(len, LARGE.values())), len(LARGE), 0)
    store.take_manifest(version, text)
    passing = DataPassing(store, lambda: None)
    copy = store.blocks(version)
    passing._version, passing._copy, passing._passing = version, copy, cast(Any, 1)
    passing._proving = Proving(copy, copy.place)
    data, length = b"".join(LARGE.values()), copy.cut.length
    again = _read_again(monkeypatch)

    def bring(numbers: Iterable[int], damage: int = -1) -> None:
        for number in numbers:
            block = bytearray(data[number * length : (number + 1) * length])
            if number == damage:
                block[0] ^= 1
            copy.write(number, block)

    bring(range(copy.count)[::order], damage=1)
    assert [path for path, _ in passing.part_seal({"keyed": False})["bad"]] == ["a"]
    missing = [number for number in range(copy.count) if not copy.have >> number & 1]
    assert missing
    del again[:]
    bring(missing)
    assert passing.part_seal({"keyed": False}) == {"bad": [], "count": 0}
    assert "a" not in again, "it was read once more"
