"""Copies that were interrupted: what counts of them within a boot, and after one."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from launcher.agent.base import manifest
from launcher.agent.base.manifest import Entry
from launcher.agent.host import machine
from launcher.agent.relay.data import resuming
from launcher.agent.relay.data.requests import DataRequests

FILES = {"a": os.urandom(1000), "large": os.urandom(1_500_000)}
#: Tags that look like MD5s, as those of objects that are encrypted by KMS.
TAGS = {name: hashlib.md5(name.encode()).hexdigest() for name in FILES}


class Host:
    """A host that gets a set of a store in blocks; each of its relays is another process's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        entries = [
            Entry(name.encode(), len(data), False, manifest.ETAG + TAGS[name].encode())
            for name, data in FILES.items()
        ]
        self.text = manifest.HEADER + b"".join(map(manifest.encode, entries))
        self.version = hashlib.sha256(self.text).hexdigest()[: manifest.LENGTH]
        self.relay = DataRequests(str(root), lambda *_: None)
        self.relay.answer(
            {
                "do": "begin",
                "version": self.version,
                "name": "x",
                "bytes": 1,
                "files": 2,
                "limit": 0,
            }
        )
        self.relay.answer({"do": "list_of", "version": self.version, "payload": self.text})
        self.place = root / "data" / f"incoming-{self.version}"
        self.copy = self.relay._store.blocks(self.version)

    def bring(self) -> None:
        """Write what is missing of it."""
        data, length = b"".join(FILES.values()), self.copy.cut.length
        for number in range(self.copy.count):
            self.copy.write(number, data[number * length : (number + 1) * length])

    def leave(self) -> None:
        """Have the process end."""
        self.relay._store._unlock(self.version)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host to which all blocks have come."""
    found = Host(tmp_path)
    found.bring()
    return found


def _seal(host: Host, keyed: bool) -> int:
    """Seal the copy as a member of a group does; return how many files differ."""
    from typing import Any, cast

    from launcher.agent.relay.data.passing import DataPassing

    passing = DataPassing(host.relay._store, lambda: None)
    passing._version, passing._copy, passing._passing = host.version, host.copy, cast(Any, 1)
    return int(passing.part_seal({"keyed": keyed})["count"])


def test_what_a_store_has_said_of_its_tags_is_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted seal goes on, and asks no store again."""
    monkeypatch.setattr(resuming, "close", lambda place: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _seal(host, True)
    host.leave()
    monkeypatch.undo()
    again = Host(host.root)
    assert again.copy.is_whole
    assert _seal(again, False) == 0
    version = host.root / "data" / host.version
    assert sorted(one.name for one in version.iterdir()) == [
        "about.json", "contents", "files", "manifest"
    ]  # fmt: skip
    assert {name: (version / "files" / name).read_bytes() for name in FILES} == FILES


def test_a_copy_whose_folders_were_closed_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    resuming.close(str(host.place))
    assert not stat.S_IMODE((host.place / "files").stat().st_mode) & 0o200
    host.leave()
    Host(host.root)
    assert stat.S_IMODE((host.place / "files").stat().st_mode) == 0o700


def test_after_a_reboot_a_lost_block_comes_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its note was on the disk, and it was not; no sum of the store would show that."""
    with (host.place / "files/large").open("r+b") as file:
        file.write(bytes(1000))
    host.leave()
    monkeypatch.setattr(machine, "boot", lambda: "another")
    again = Host(host.root)
    assert not again.copy.is_whole
    again.bring()
    assert _seal(again, True) == 0
    assert (host.root / "data" / host.version / "files/large").read_bytes() == FILES["large"]


@pytest.mark.parametrize(
    ("checksum", "keyed", "stays"),
    [
        ("sha256:" + "0" * 64, False, True),
        ("etag:" + "0" * 32, False, True),
        ("etag:" + "0" * 32, True, False),
        ("etag:" + "0" * 32 + "-3", False, False),
    ],
)
def test_after_a_reboot_a_part_counts_if_its_sum_will_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: str, keyed: bool, stays: bool
) -> None:
    entry, place = Entry(b"one", 10, False, checksum.encode()), str(tmp_path)
    resuming.resume(place)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/name").write_bytes(b"12345")
    if keyed:
        (tmp_path / "keyed").touch()
    resuming.resume(place)
    assert (tmp_path / "parts/name").exists(), "there was no reboot"
    monkeypatch.setattr(machine, "boot", lambda: "another")
    resuming.resume(place)
    assert not (tmp_path / "parts/name").exists()
    resuming.take_part(place, entry, "name")
    assert (tmp_path / "parts/name").exists() == stays
    assert not (tmp_path / "parts-before/name").exists()
