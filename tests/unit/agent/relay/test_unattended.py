"""The archive that a host stores by itself: a tar for anybody, in parts out of which a store can copy."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import attendance, protocol
from launcher.agent.relay import unattended
from launcher.agent.relay.data import put
from launcher.agent.relay.signed_urls import Again
from launcher.agent.relay.unattended import Upload, Watch

#: Names that need care: long, of several bytes, not UTF-8, and with the marks of other systems.
NAMES = (
    "a", "b/" + "n" * 200, "deep/" * 40 + "f", "é ü/\N{SNOWMAN}", os.fsdecode(b"\xff\xfe"), "x\\y:z*",
)  # fmt: skip


class Nobody(Watch):
    """Stands for the watch of a process: somebody is in touch at one of its looks, or never."""

    def __init__(self, at: int = 0) -> None:
        self.left = at

    @property
    def is_alone(self) -> bool:
        """Whether nobody is in touch."""
        self.left -= 1
        return self.left != 0

    def until_alone(self) -> None:
        """Wait for nothing."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a run, and parts that are small enough for a test."""
    monkeypatch.setattr(unattended, "LEAST", 1 << 16)
    monkeypatch.setattr(unattended, "MOST", 1 << 18)
    monkeypatch.setattr(unattended, "LARGE", 1 << 14)
    monkeypatch.setattr(unattended, "FIRST", 5 << 10)
    monkeypatch.setattr(unattended, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "code").mkdir()
    return tmp_path


class Store:
    """What stands for a store: it takes what is sent, after it has refused ``busy`` requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects: dict[str, bytes] = {}
        self.busy, self.cut = 0, 0
        monkeypatch.setattr(put, "send", self._send)

    def _send(self, url: str, data: Any, length: int, headers: dict[str, str]) -> tuple[str, str]:
        if url.startswith("part") and self.busy:
            self.busy -= 1
            next(data)
            raise Again("the server answers 503")
        sent = b"".join(data)
        assert len(sent) == length
        self.objects[url] = sent
        return "", hashlib.md5(sent).hexdigest()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store without a network."""
    return Store(monkeypatch)


def upload(count: int = 100, watch: Watch | None = None, **more: Any) -> Upload:
    """Return what stores a run by so many URLs."""
    supply = {
        "run": "calm-owl", "host": "gpu1", "hosts": ["gpu1"], "paths": ["ckpt"], "headers": {},
        "urls": [f"part-{n:04}" for n in range(1, count + 1)], "manifest": "manifest", "seconds": 60,
    }  # fmt: skip
    return Upload({**supply, **more}, unattended.time.monotonic(), watch or Nobody())


def manifest(store: Store) -> dict[str, Any]:
    """Return what the host has said last."""
    found: dict[str, Any] = protocol.lean.loads(store.objects["manifest"].decode())
    return found


def whole(store: Store) -> bytes:
    """Return the archive."""
    return b"".join(store.objects[one["name"]] for one in manifest(store)["parts"])


def test_a_tar_archive_for_anybody(small: Path, store: Store) -> None:
    """All files are in it, each where the manifest says, with any name; large ones can be copied out."""
    dice = random.Random(7)
    files = {f"outputs/{name}": dice.randbytes(n * 700) for n, name in enumerate(NAMES)}
    sizes = (1 << 14, 50_000, 70_001, 300_000, 1, 16_383, 65_536)
    files |= {f"code/ckpt/{n}": dice.randbytes(size) for n, size in enumerate(sizes)}
    for name, data in files.items():
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        (small / name).write_bytes(data)
    store.busy = 2
    upload().run()
    about, archive = manifest(store), whole(store)
    assert (about["whole"], about["missing_files"], len(about["files"])) == (True, 0, len(files))
    expected = {name.partition("/")[2]: data for name, data in files.items()}
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    assert found == expected
    starts = [0]
    for part in about["parts"]:
        assert part["size"] <= 1 << 16
        assert part["size"] == len(store.objects[part["name"]])
        starts.append(starts[-1] + part["size"])
    for one in about["files"]:
        at, data = one["at"], expected[one["path"]]
        assert archive[at : at + one["size"]] == data
        assert one["sha256"] == hashlib.sha256(data).hexdigest()
        cuts = [n for n in starts if at < n < at + len(data)]
        if len(data) >= unattended.LARGE and cuts:
            pieces = [b - a for a, b in zip([at, *cuts], [*cuts, at + len(data)], strict=True)]
            assert min(pieces[:-1]) >= unattended.FIRST, (one["path"], pieces)


def test_more_than_its_urls_can_take(small: Path, store: Store) -> None:
    """Parts become larger; what does not fit even so is named, and the rest is there."""
    for n in range(4):
        (small / f"outputs/{n}").write_bytes(bytes(200_000 + n))
    upload(3).run()
    about = manifest(store)
    assert [one["path"] for one in about["files"]] == ["0", "1", "2"]
    assert (about["whole"], about["missing_bytes"]) == (False, 200_003)
    assert about["missing"] == [["3", "it is too large for 3 parts"]]
    with tarfile.open(fileobj=io.BytesIO(whole(store))) as tar:
        assert tar.getnames() == ["0", "1", "2"]


@pytest.mark.parametrize("look", range(1, 9))
def test_a_launcher_comes_back_for_a_while(small: Path, store: Store, look: int) -> None:
    """What is being written then is written again from its beginning, with the sums of that."""
    data = random.Random(1).randbytes(150_000)
    (small / "outputs/x").write_bytes(data)
    upload(watch=Nobody(look)).run()
    assert manifest(store)["whole"] is True
    assert manifest(store)["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    at = manifest(store)["files"][0]["at"]
    assert whole(store)[at : at + len(data)] == data


def test_a_file_that_changes(small: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing, and no other file is."""
    (small / "outputs/a").write_bytes(b"a" * 3000)
    (small / "outputs/b").write_bytes(b"b" * 3000)
    there = upload()
    there._list()
    (small / "outputs/a").write_bytes(b"?" * 2000)
    monkeypatch.setattr(there, "_list", lambda: None)
    there.run()
    about = manifest(store)
    assert [one["path"] for one in about["files"]] == ["b"]
    assert about["whole"] is False
    assert about["missing"][0][0] == "a"


def test_who_stores_is_told_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds the file: it is removed. The lock of a process is respected, and one is enough."""
    monkeypatch.chdir(tmp_path)
    assert attendance.end(str(tmp_path)) is False
    lock = attendance.own()
    assert lock is not None
    assert attendance.own() is None
    before = os.fstat(lock).st_mtime_ns
    os.utime(attendance.NAME, ns=(0, 0))
    attendance.touch(str(tmp_path))
    assert os.fstat(lock).st_mtime_ns >= before
    monkeypatch.setattr(attendance, "GONE", 0.0)
    with pytest.raises(protocol.Refused):
        attendance.end(str(tmp_path))
    os.close(lock)
    assert attendance.end(str(tmp_path)) is False
    assert not (tmp_path / attendance.NAME).exists()


def test_what_was_handed_over_is_not_stored(small: Path, store: Store) -> None:
    """Unless the run has changed it."""
    note = b""
    for folder in ("outputs", "code/ckpt"):
        (small / folder).mkdir(exist_ok=True)
        for name in ("same", "changed"):
            (small / folder / name).write_bytes(b"x")
            os.utime(small / folder / name, ns=(1, 1))
            path = os.path.join(folder, name).replace("outputs/", "").replace("code/", "")
            note += b"1 1 %s\0" % path.encode()
        (small / folder / "changed").write_bytes(b"xy")
    (small / "given.list").write_bytes(note)
    upload().run()
    assert [one["path"] for one in manifest(store)["files"]] == ["changed", "ckpt/changed"]
