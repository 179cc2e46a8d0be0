"""Shared memory of a run is found and removed."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.processes import shared_memory
from launcher.agent.processes.shared_memory import SharedMemory


@pytest.fixture
def folder() -> Iterator[Path]:
    """A part of /dev/shm, as a folder is no segment of anybody's."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as found:
        yield Path(found)


def segment(folder: Path, name: str, mode: int = 0o600) -> mmap.mmap:
    """A file there that this process has mapped."""
    with (folder / name).open("w+b") as file:
        file.truncate(4096)
        os.fchmod(file.fileno(), mode)
        return mmap.mmap(file.fileno(), 4096)


def test_what_a_run_has_mapped_is_removed(folder: Path) -> None:
    """Not what was there before, what it did not map, what has another name, or what others may read."""
    kept = [segment(folder, "vader_segment.before")]
    watch = SharedMemory(0.0, str(folder))
    names = ("vader_segment.h.0.1.0", "nccl-Ab12cd", "data.bin")
    kept += [segment(folder, name) for name in names]
    kept.append(segment(folder, "nccl-public", 0o644))
    (folder / "vader_segment.another-run").write_bytes(b"x")
    (folder / "vader_segment.another-run").chmod(0o600)
    watch.look(1.0, [os.getpid()])
    assert watch.remove() == [], "they are in use"
    for one in kept:
        one.close()
    with (folder / "nccl-Ab12cd").open():
        assert watch.remove() == ["vader_segment.h.0.1.0"]
    assert watch.remove() == ["nccl-Ab12cd"]
    left = ["data.bin", "nccl-public", "vader_segment.another-run", "vader_segment.before"]
    assert sorted(os.listdir(folder)) == left


@pytest.mark.parametrize(("helpers", "count"), [(set(), 2), ({1}, 1)])
def test_what_ended_programs_hold_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, helpers: set[int], count: int
) -> None:
    """Batches that wait for somebody are mapped by nobody: torch's helper knows of them."""
    monkeypatch.setattr(shared_memory, "cleaners", lambda _: helpers)
    used = segment(folder, "psm_used")
    for name in ("psm_left", "torch_1_2_3", "my-data"):
        (folder / name).write_bytes(b"x")
        (folder / name).chmod(0o600)
    found = SharedMemory(0.0, str(folder)).abandoned()
    assert found == {"segments": count, "bytes": count * mmap.PAGESIZE}
    used.close()


def test_looks_become_rare(folder: Path) -> None:
    """It costs to look into processes: who never has anything there is hardly looked at."""
    watch = SharedMemory(0.0, str(folder))
    moments = []
    while watch.next_look < 300.0:
        moments.append(watch.next_look)
        watch.look(watch.next_look, [])
    assert moments == [1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0, 243.0]
