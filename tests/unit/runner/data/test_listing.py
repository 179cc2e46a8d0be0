"""Listing a source: what changes its version, what is read again, and what no set can hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.agent.base import folder_sums
from launcher.runner.data import listing
from launcher.spec.errors import InputError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two files and a link; what is remembered of it is in the test's folder."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "one").write_bytes(b"1" * 1000)
    (folder / "two").write_bytes(b"2" * 500)
    (folder / "link").symlink_to("deep/one")
    return folder


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that have just been written count as old."""
    monkeypatch.setattr(folder_sums, "FRESH", -(10**18))


def test_content_is_the_version(source: Path, tmp_path: Path) -> None:
    """Times and places are not: equal folders have equal versions."""
    first = listing.read(source)
    assert (first.version.files, first.version.bytes) == (3, 1500)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", source, copy], check=True)
    os.utime(copy / "two", (1, 1))
    assert listing.read(copy).version == first.version
    (copy / "two").chmod(0o755)
    assert listing.read(copy).version != first.version


def test_only_what_has_changed_is_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    first = listing.read(source)
    assert first.read == 1500
    assert listing.read(source) == listing.Listed(first.version, first.folder, first.manifest, 0)
    (source / "two").write_bytes(b"3" * 500)
    second = listing.read(source)
    assert second.read == 500
    assert second.version != first.version
    assert not first.manifest.exists(), "nothing grows for ever"
    (source / "new").write_bytes(b"n")
    (source / "deep" / "one").unlink()
    (source / "link").unlink()
    third = listing.read(source)
    assert (third.read, third.version.files) == (1, 2)


def _swap(folder: Path) -> None:
    """Swap two files of the same size and time."""
    (folder / "two").rename(folder / "aside")
    (folder / "equal").rename(folder / "two")
    (folder / "aside").rename(folder / "equal")


def _link_elsewhere(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("two")


@pytest.mark.parametrize(
    "change",
    [
        _swap,
        _link_elsewhere,
        lambda folder: (folder / "two").rename(folder / "deep" / "two"),
        lambda folder: (folder / "two").chmod(0o755),
        lambda folder: (folder / "deep" / "one").unlink() or (folder / "link").unlink(),
        lambda folder: (folder / "deep" / "new").touch(),
    ],
    ids=["swapped", "link", "renamed", "mode", "deleted", "added"],
)
def test_every_change_is_noticed(
    source: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a source was like the last time never stands for what it is like now; put back as it was, it
    is the version of before."""
    settle(monkeypatch)
    (source / "equal").write_bytes(b"3" * 500)
    for name in ("two", "equal"):
        os.utime(source / name, (1, 1))
    before = listing.read(source).version
    assert listing.read(source).version == before
    kept = source.parent / "kept"
    subprocess.run(["cp", "-a", source, kept], check=True)
    change(source)
    assert listing.read(source).version != before
    shutil.rmtree(source)
    kept.rename(source)
    assert listing.read(source).version == before


def test_the_same_size_and_time_are_not_enough(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets the time back is found out by the time of the inode."""
    settle(monkeypatch)
    first, two = listing.read(source), source / "two"
    status = two.stat()
    two.write_bytes(b"x" * 500)
    os.utime(two, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert listing.read(source).version != first.version


def test_what_was_just_written_is_read_again(source: Path) -> None:
    """Its next change may have the same time."""
    assert listing.read(source).read == 1500
    assert listing.read(source).read == 1500


def test_a_file_that_changes_while_it_is_read(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again; one that never stops is an error that names it."""
    growing = source / "two"

    def grow(count: int, total: int | None) -> None:
        if count <= limit:
            with growing.open("ab") as file:
                file.write(b"more")

    limit = 1700
    found = listing.read(source, grow)
    assert found.version == listing.read(source).version
    assert found.version.bytes == 1000 + growing.stat().st_size
    limit = 10**9
    with pytest.raises(InputError, match="two changes while it is read"):
        listing.read(source, grow)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/passwd", "relative links to its own files only"),
        ("../../source-secret", "relative links to its own files only"),
        ("nowhere", "does not exist"),
    ],
)
def test_links_that_lead_out(source: Path, target: str, words: str) -> None:
    """Named, with what to do; nothing is copied that nobody meant to copy."""
    (source.parent / "source-secret").write_text("")
    (source / "deep" / "bad").symlink_to(target)
    with pytest.raises(InputError, match=words) as error:
        listing.read(source)
    assert "deep/bad is a link to" in str(error.value)
    assert error.value.hint


def test_what_is_no_folder_of_files(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(InputError, match="pipe is a pipe, a socket or a device"):
        listing.read(source)
    with pytest.raises(InputError, match="does not exist here"):
        listing.read(source / "nothing")
    with pytest.raises(InputError, match="is not a folder"):
        listing.read(source / "two")


@pytest.mark.thorough
def test_memory_does_not_grow_with_files(source: Path) -> None:
    """Only the names of one folder of each level are held at a time."""
    peaks = []
    for first, last in ((0, 5), (5, 100)):
        for number in range(first, last):
            folder = source / f"folder-{number}"
            folder.mkdir()
            for one in range(20):
                (folder / f"a-file-with-a-long-name-{one}").touch()
        tracemalloc.start()
        listing.read(source)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 100_000, "1,900 files more"
