"""Folders of a host as sources: read a while at a time, once, and given only as they were read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import folder_sums
from launcher.agent.base.protocol import Refused
from launcher.agent.relay.data import folders
from launcher.agent.relay.data.folders import FolderReading


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three files, whose times count as old."""
    monkeypatch.setattr(folder_sums, "FRESH", -(10**18))
    folder = tmp_path / "my set"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * 3_000_000)
    return folder


def read(data: Path, folder: str, seconds: float = 60.0) -> dict[str, Any]:
    """Return what a folder holds."""
    reading = FolderReading(str(data), folder, lambda: None)
    while True:
        found = reading.go_on(seconds)
        if found.get("over") or found.get("unfit"):
            return dict(found)


def test_it_is_read_a_while_at_a_time(source: Path, tmp_path: Path) -> None:
    reading = FolderReading(str(tmp_path / "data"), str(source), lambda: None)
    seen = [dict(reading.go_on(-1.0))]
    while not seen[-1].get("over"):
        seen.append(dict(reading.go_on(-1.0)))
    assert len(seen) > 9, "a MiB is a step"
    counts = [one.get("read", 0) for one in seen]
    assert counts == sorted(counts)
    assert counts[-1] == seen[-1]["bytes"] == 9_000_000
    assert seen[-1]["files"] == 3


def test_it_is_read_once_and_what_has_changed_again(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = read(data, str(source))
    again = read(data, str(source))
    assert again["version"] == first["version"]
    assert "read" not in again
    (source / "b").write_bytes(b"new")
    second = read(data, str(source))
    assert second["read"] == 3
    assert second["version"] != first["version"]
    link = tmp_path / "link"
    link.symlink_to(source)
    assert read(data, str(link))["place"] == second["place"], "another name of the same folder"


def test_nothing_else_is_given(source: Path, tmp_path: Path) -> None:
    """A folder that was not read, or has changed since, is no version."""
    data = str(tmp_path / "data")
    found = read(tmp_path / "data", str(source))
    copy = folders.lent(data, str(source), found["version"], lambda: None)
    assert copy.have == (1 << copy.count) - 1
    assert copy.read(0)[0].startswith(b"aaa")
    for path, version in ((str(source), "0" * 32), (str(tmp_path), found["version"])):
        with pytest.raises(Refused, match="has changed since it was read"):
            folders.lent(data, path, version, lambda: None)
    os.utime(source / "a", ns=(1, 1))
    with pytest.raises(Refused, match="has changed since it was read"):
        folders.lent(data, str(source), found["version"], lambda: None)


def test_a_folder_that_cannot_be_one(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert read(data, str(tmp_path / "none"))["unfit"][0] == folder_sums.MISSING
    assert read(data, str(source / "a"))["unfit"][0] == folder_sums.NO_FOLDER
    os.mkfifo(source / "pipe")
    found = read(data, str(source))
    assert found["unfit"] == [folder_sums.SPECIAL, "pipe", ""]
    assert found["folder"] == str(source)
    (source / "pipe").unlink()
    assert read(data, str(source))["over"], "and it can be read again"


def test_what_is_known_of_a_lost_folder_is_forgotten(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    place = Path(read(data, str(source))["place"])
    assert folders.forget_lost(str(data), lambda name: []) == 0
    source.rename(tmp_path / "elsewhere")
    assert folders.forget_lost(str(data), lambda name: ["a-run"]) == 0
    assert folders.forget_lost(str(data), lambda name: []) > 0
    assert not place.exists()
    assert (tmp_path / "elsewhere" / "a").exists()
