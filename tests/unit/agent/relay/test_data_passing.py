"""The seal of a copy whose blocks have come from a store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.agent.base import manifest
from launcher.agent.relay import data_examine, data_sums
from launcher.agent.relay.data_passing import DataPassing
from launcher.agent.relay.data_store import DataStore

FILES = {"a": b"first", "b": b"second", "c": b"third"}


class _Copy:
    """Blocks that nobody asks for."""

    def replace(self, other: object) -> None:
        pass


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
    passing._version, passing._copy, passing._passing = version, cast(Any, _Copy()), cast(Any, 1)
    return passing, place, version


def _read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of files that are read after their sums were noted."""
    found: list[str] = []
    digest = data_examine.digest

    def noted(path: str, *about: Any) -> str:
        found.append(Path(path).name)
        return digest(path, *about)

    monkeypatch.setattr(data_examine, "digest", noted)
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
    contents = list(data_sums.entries(str(place.parent / version), "contents"))
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
