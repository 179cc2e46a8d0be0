"""Which blocks a copy has that was interrupted, and what it writes."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.agent.base import blocks, manifest
from launcher.agent.base.manifest import Entry
from launcher.agent.relay.data import blocks as data_blocks
from launcher.agent.relay.data.blocks import Copy


def test_blocks_of_another_length_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who upgrades in the middle of a copy gets no hole for a block; what was cut as now still counts."""
    (tmp_path / "files").mkdir()
    entry = Entry(b"one", 4000, False, b"sha256:x")
    (tmp_path / "manifest").write_bytes(manifest.HEADER + manifest.encode(entry))
    data = os.urandom(4000)

    def copy(length: int) -> Copy:
        monkeypatch.setattr(blocks, "SHORTEST", length)
        monkeypatch.setattr(blocks, "LENGTH", length)
        found = Copy((str(tmp_path),))
        found.load(lambda: None)
        return found

    first = copy(1000)
    checksum = hashlib.sha256(data[:1000]).digest()
    first.write(0, data[:1000], checksum)
    assert copy(2000).have == 0
    again = copy(1000)
    assert again.have == 1
    assert again.read(0) == (data[:1000], checksum)


def test_a_block_that_is_here_stays(tmp_path: Path) -> None:
    """Its file may be summed as soon as its blocks are here: what comes late changes nothing."""
    (tmp_path / "files").mkdir()
    data = os.urandom(4000)
    entry = Entry(b"one", len(data), False, manifest.ETAG + b"x")
    (tmp_path / "manifest").write_bytes(manifest.HEADER + manifest.encode(entry))
    copy = Copy((str(tmp_path),))
    copy.load(lambda: None)
    for one in (data, bytes(len(data))):
        copy.write(0, one)
    assert (tmp_path / "files" / "one").read_bytes() == data
    assert copy.read(0)[0] == data


def _set(place: Path, sizes: dict[str, int], kind: bytes = manifest.SHA256) -> dict[str, bytes]:
    """Write the manifest of a set of files; return these."""
    files = {name: os.urandom(size) for name, size in sorted(sizes.items())}
    (place / "files").mkdir(parents=True)
    with (place / "manifest").open("wb") as file:
        file.write(manifest.HEADER)
        for name, data in files.items():
            digest = hashlib.sha256(data).hexdigest().encode()
            file.write(
                manifest.encode(Entry(name.encode(), len(data), name == "tool", kind + digest))
            )
    return files


def _copy(place: Path) -> Copy:
    found = Copy((str(place),))
    found.load(lambda: None)
    return found


def _blocks(files: dict[str, bytes], copy: Copy) -> list[bytes]:
    data, length = b"".join(files.values()), copy.cut.length
    return [data[at : at + length] for at in range(0, len(data), length)]


def test_a_damaged_block_is_not_written(tmp_path: Path) -> None:
    """Neither one of a file that is whole in it, whatever sum it comes with, nor one of a part."""
    files = _set(tmp_path, {"a": 1000, "large": 900_000})
    copy = _copy(tmp_path)
    for number, block in enumerate(_blocks(files, copy)):
        right = blocks.summed(list(copy.cut.pieces(number)), block).block
        damaged = bytes([block[0] ^ 1]) + block[1:]
        others = blocks.summed(list(copy.cut.pieces(number)), damaged).block
        for checksum in [right] if number else [right, others]:
            with pytest.raises(blocks.Damaged):
                copy.write(number, damaged, checksum)
        assert not copy.have >> number & 1
        copy.write(number, block, right)
    assert copy.is_whole
    assert {name: (tmp_path / "files" / name).read_bytes() for name in files} == files


def test_files_that_are_whole_in_a_block_are_finished(tmp_path: Path) -> None:
    """They have their permissions, times and sums: nothing of them is looked at again."""
    files = _set(tmp_path, {"a": 1000, "large": 900_000, "tool": 2000})
    (tmp_path / "times").write_bytes(struct.pack(">3q", 7, 8, 9))
    copy = _copy(tmp_path)
    for number, block in enumerate(_blocks(files, copy)):
        copy.write(number, block)
    assert {path.decode(): its[0] for path, its in copy.files.items()} == {
        name: hashlib.sha256(files[name]).hexdigest() for name in ("a", "tool")
    }
    found = {name: (tmp_path / "files" / name).stat() for name in files}
    assert [one.st_mtime_ns for one in found.values()][::2] == [7, 9]
    assert stat.S_IMODE(found["tool"].st_mode) == 0o555
    assert not stat.S_IMODE(found["a"].st_mode) & 0o222


def _as_nobody(script: Callable[[], None]) -> None:
    """Do something in a process of a user for whom permissions count."""
    pid = os.fork()
    if not pid:
        try:
            if not os.geteuid():
                os.setuid(65534)
            script()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_file_of_another_version_is_not_written_to(tmp_path: Path) -> None:
    """It is read-only, and shared: the rest of its block goes beside it."""
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)

    def script() -> None:
        before, now = tmp_path / "before", tmp_path / "now"
        files = _set(now, {"a": 1000, "b": 2000, "c": 900_000})
        (before / "files").mkdir(parents=True)
        (before / "files/a").write_bytes(files["a"])
        (before / "files/b").write_bytes(b"another one")  # as rsync links by size and time
        (before / "files/c").write_bytes(bytes(900_000))
        for name in "abc":
            (before / "files" / name).chmod(0o444)
            (now / "files" / name).hardlink_to(before / "files" / name)
        noted = b"sha256:%s a\0" % hashlib.sha256(files["a"]).hexdigest().encode()
        (now / "sums").write_bytes(noted)
        copy = _copy(now)
        for number, block in enumerate(_blocks(files, copy)):
            copy.write(number, block)
        assert {name: (now / "files" / name).read_bytes() for name in files} == files
        assert (now / "files/a").samefile(before / "files/a")
        assert (before / "files/b").read_bytes() == b"another one"
        assert (before / "files/c").read_bytes() == bytes(900_000)

    _as_nobody(script)


def test_what_a_seal_has_removed_is_written_again(tmp_path: Path) -> None:
    """Its sum may be noted; and the files beside it are read-only by then."""
    files = _set(tmp_path, {"a": 1000, "b": 900_000})
    copy = _copy(tmp_path)
    for number, block in enumerate(_blocks(files, copy)):
        copy.write(number, block)
    notes = [b"sha256:x %s\0" % name.encode() for name in files]
    (tmp_path / "sums").write_bytes(b"".join(notes))
    (tmp_path / "files/b").chmod(0o444)
    (tmp_path / "files/a").unlink()
    again = _copy(tmp_path)
    assert again.have == 0b10
    again.write(0, _blocks(files, again)[0])
    assert {name: (tmp_path / "files" / name).read_bytes() for name in files} == files


def test_after_a_reboot_only_blocks_with_their_sums_count(tmp_path: Path) -> None:
    """Their notes may have come to the disk before them. Another reboot in between changes nothing."""
    files = _set(tmp_path, {"a": 1000, "large": 1_500_000}, manifest.ETAG)
    copy = _copy(tmp_path)
    for number, block in enumerate(_blocks(files, copy)[:2]):
        copy.write(number, block)
    with (tmp_path / "files/large").open("r+b") as file:
        file.write(bytes(1000))
    data_blocks.doubt(str(tmp_path))
    data_blocks.doubt(str(tmp_path))
    again = _copy(tmp_path)
    assert again.have == 0b10
    assert _copy(tmp_path).have == 0b10
