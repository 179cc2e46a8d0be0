"""A host's journal: numbered records that survive a torn write and a full disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from launcher.agent.base import journal


def test_records_have_numbers_and_come_back(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    first = journal.Journal(path)
    told = [first.append("Started", key="größe\n\r"), first.append("Ended")]
    assert [record["seq"] for record in told] == [0, 1]
    told.append(journal.Journal(path).append("Again"))
    read = journal.read_from(path, 0)
    assert [record for record, _ in read] == told
    assert [record["seq"] for record in told] == [0, 1, 2]
    assert read[-1][1] == os.path.getsize(path)
    for position, (_, end) in enumerate(read, 1):
        assert [record for record, _ in journal.read_from(path, end)] == told[position:]


def test_a_torn_record_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal.Journal(str(path)).append("Whole")
    with path.open("ab") as file:
        file.write(b'{"seq":1,"event":"To' + b"r" * 500)
    assert len(journal.read_from(str(path), 0)) == 1
    record = journal.Journal(str(path)).append("Next")
    assert record["seq"] == 1
    assert path.stat().st_size == journal.read_from(str(path), 0)[-1][1]
    assert [found["event"] for found, _ in journal.read_from(str(path), 0)] == ["Whole", "Next"]


def test_no_journal(tmp_path: Path) -> None:
    assert journal.read_from(str(tmp_path / "nothing"), 0) == []


def test_a_full_disk_keeps_records_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    opened = journal.Journal(str(path))
    room = [10]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = data[: room[0]]
        room[0] -= len(taken)
        return real(fd, taken)

    real = os.write
    monkeypatch.setattr(journal.os, "write", write)
    opened.append("First")
    opened.append("Second")
    assert path.stat().st_size == 10
    room[0] = 1000
    opened.flush()
    events = [record["event"] for record, _ in journal.read_from(str(path), 0)]
    assert events == ["First", "Second"]


def test_a_record_that_has_to_last_is_kept_or_was_never_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    opened = journal.Journal(str(path))
    opened.append("First")
    assert opened.has_room()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        assert not opened.has_room()
        assert opened.append_lasting("Lost") is None
        assert path.stat().st_size == journal.read_from(str(path), 0)[-1][1], (
            "no piece of it is left"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    record = opened.append_lasting("Kept")
    assert record is not None
    assert record["seq"] == 1
    opened.append("Last")
    found = [(one["seq"], one["event"]) for one, _ in journal.read_from(str(path), 0)]
    assert found == [(0, "First"), (1, "Kept"), (2, "Last")]
