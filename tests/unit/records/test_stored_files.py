"""Notes of what a store has: cheap to add to, and whole after a kill at any byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.records import stored_files
from launcher.records.stored import StoredFile
from launcher.records.stored_files import StoredFiles


def file(name: str, size: int = 1) -> StoredFile:
    return StoredFile(name, "gpu1", name, size, 7, "0" * 64)


def saved(place: Path, *files: StoredFile) -> StoredFiles:
    """Note files, as one process does."""
    them = StoredFiles(place)
    them.add(files)
    them.save()
    return them


def test_a_note_costs_what_is_new(tmp_path: Path) -> None:
    """Whatever is there by then."""
    place = tmp_path / "f"
    odd = os.fsdecode(b"\xff \n")
    them = saved(place, *(file(str(n)) for n in range(3000)), file(odd))
    before = place.stat().st_size
    them.add([file("more"), file("1", 5)])
    them.save()
    them.save()
    assert place.stat().st_size - before < 300
    again = StoredFiles(place)
    assert (len(again), again.total) == (3002, 3006)
    assert again.get("1") == file("1", 5) and again.get(odd) == file(odd)
    assert again.get("none") is None
    assert list(again) == list(them)


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """At any byte: that file is stored again, and the ones noted after it are known."""
    place = tmp_path / "f"
    saved(place, file("a"), file("b"))
    whole = place.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        place.write_bytes(whole[:cut])
        saved(place, file("c"))
        names = StoredFiles(place).names
        assert names in (["a", "c"], ["a", "b", "c"]), cut


def test_what_is_there_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not known, and does not make the notes grow for ever."""
    monkeypatch.setattr(stored_files, "STALE", 10)
    place = tmp_path / "f"
    them = saved(place, file("kept"))
    for n in range(100):
        them.add([file(f"of-{n}")])
        them.save()
        them.remove(f"of-{n}")
        them.save()
        assert len(place.read_bytes().splitlines()) < 16
        assert StoredFiles(place).names == ["kept"]
