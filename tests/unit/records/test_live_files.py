"""Outputs that travel as logs do: written by offset, read as they grow, and the pull's own in the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tensorboard.summary import Writer

from launcher.records import live_files
from launcher.records.live_files import LiveFiles
from launcher.records.scalars import Key, Scalars


def test_pieces_come_twice_and_gaps_are_left_out(tmp_path: Path) -> None:
    live = LiveFiles(tmp_path, "gpu1")
    live.take("board/a.tfevents.1", 0, b"0123")
    live.take("board/a.tfevents.1", 2, b"2345")
    live.take("board/a.tfevents.1", 9, b"9")
    assert (tmp_path / "live/gpu1/board/a.tfevents.1").read_bytes() == b"012345"
    assert LiveFiles(tmp_path, "gpu1").sizes == {"board/a.tfevents.1": 6}, "for the next launcher"
    assert os.stat(tmp_path / "live/gpu1/board/a.tfevents.1").st_mode & 0o77 == 0


def test_what_cannot_be_written_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where another one needs a folder, too many of them, and too much."""
    live = LiveFiles(tmp_path, "gpu1")
    live.take("a.tfevents.1", 0, b"file")
    live.take("a.tfevents.1/b.tfevents.2", 0, b"none")
    (tmp_path / "live/gpu1/l.tfevents.3").symlink_to(tmp_path / "elsewhere")
    live.take("l.tfevents.3", 0, b"none")
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setattr(live_files, "BYTES", 6)
    live.take("c.tfevents.4", 0, b"too much")
    live.take("c.tfevents.4", 0, b"12")
    monkeypatch.setattr(live_files, "FILES", 1)
    live.take("d.tfevents.5", 0, b"")
    live.take("d.tfevents.5", 0, b"1")
    assert {
        path: file.read_bytes() for path, file in live_files.of(tmp_path, "gpu1") if file.exists()
    } == {
        "a.tfevents.1": b"file",
        "c.tfevents.4": b"12",
    }


def test_each_point_is_there_once_whatever_comes_first(tmp_path: Path) -> None:
    """A pull may be behind the live file, or ahead of it, and replaces it at the end."""
    writer = Writer(str(tmp_path / "host"))
    live, found = LiveFiles(tmp_path, "gpu1"), Scalars(tmp_path)
    (tmp_path / "outputs/board").mkdir(parents=True)
    mirror = tmp_path / "mirror"
    (mirror / "board").mkdir(parents=True)

    def step(number: int) -> bytes:
        writer.add_scalar("loss", 1 / number, number)
        writer.flush()
        (file,) = (tmp_path / "host").iterdir()
        return file.read_bytes()

    def pulled(data: bytes) -> None:
        for folder in (tmp_path / "outputs/board", mirror / "board"):
            (folder / "a.tfevents.1").write_bytes(data)

    def steps() -> list[int]:
        assert found.look()
        return [step for step, _, _ in found.series[Key("loss", "board")].points]

    first = step(1)
    live.take("board/a.tfevents.1", 0, first)
    assert steps() == [1]
    pulled(first)
    assert steps() == [1]
    second = step(2)
    live.take("board/a.tfevents.1", len(first), second[len(first) :])
    assert steps() == [1, 2]
    third = step(3)
    pulled(third)
    assert steps() == [1, 2, 3]
    live_files.settle(tmp_path, "gpu1", mirror)
    assert steps() == [1, 2, 3]
    assert (tmp_path / "live/gpu1/board/a.tfevents.1").read_bytes() == third
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host", "live", "mirror", "outputs"]
    assert Scalars(tmp_path).look()


def test_the_same_path_of_two_hosts_is_two_files(tmp_path: Path) -> None:
    for number, host in enumerate(("gpu1", "gpu2"), 1):
        with_host = tmp_path / host
        writer = Writer(str(with_host))
        writer.add_scalar("loss", float(number), number)
        writer.close()
        (file,) = with_host.iterdir()
        LiveFiles(tmp_path, host).take("a.tfevents.1", 0, file.read_bytes())
    found = Scalars(tmp_path)
    assert found.look()
    assert found.series[Key("loss", "")].count == 2
    (tmp_path / "outputs").mkdir()
    for host in ("gpu1", "gpu2"):  # as the pull names them
        os.link(tmp_path / f"live/{host}/a.tfevents.1", tmp_path / f"outputs/a.tfevents@{host}.1")
    assert found.look()
    assert found.series[Key("loss", "")].count == 2


def test_a_folder_of_links_has_the_longer_file(tmp_path: Path) -> None:
    run, place = tmp_path / "run", tmp_path / "place"
    (run / "outputs/board").mkdir(parents=True)
    (run / "outputs/board/a.tfevents.1").write_bytes(b"01")
    (run / "outputs/board/model.pt").write_bytes(b"2")
    live = LiveFiles(run, "gpu1")
    live.take("board/a.tfevents.1", 0, b"0123")
    live_files.lay_together(run, place)
    assert (place / "board/a.tfevents.1").read_bytes() == b"0123"
    assert (place / "board/model.pt").read_bytes() == b"2"
    (run / "outputs/board/a.tfevents.1").write_bytes(b"012345")
    live.take("b.tfevents.2", 0, b"new")
    live_files.lay_together(run, place)
    assert (place / "board/a.tfevents.1").read_bytes() == b"012345"
    assert (place / "b.tfevents.2").read_bytes() == b"new"
