"""Where launcher's own programs of a run stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.agent.base import programs


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a run where nothing may be executed; two others may hold programs."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    places = [str(tmp_path / name) for name in ("noexec", "one", "two")]
    for place in places:
        os.mkdir(place)
    monkeypatch.setattr(programs, "PLACES", places)
    monkeypatch.setattr(programs, "_may_execute", lambda place: place in places[1:])
    return run_dir


def test_programs_stand_in_the_folder_of_the_run(tmp_path: Path) -> None:
    assert programs.folder(str(tmp_path), "bin") == str(tmp_path / "bin")
    assert not (tmp_path / "bin").is_symlink()
    programs.remove(str(tmp_path))
    assert (tmp_path / "bin").is_dir(), "that is the folder's own matter"


def test_where_nothing_may_be_executed_they_stand_elsewhere(closed: Path) -> None:
    path = Path(programs.folder(str(closed), "bin"))
    assert path == closed / "bin"
    (path / "python").write_text("")
    (target,) = (closed.parent / "one").iterdir()
    assert (target / "python").exists()
    assert target.stat().st_mode & 0o777 == 0o700
    assert programs.folder(str(closed), "bin") == str(path), "an attempt later"
    (target / "python").unlink()
    target.rmdir()  # a boot
    assert Path(programs.folder(str(closed), "bin")).is_dir()
    programs.remove(str(closed))
    assert not list((closed.parent / "one").iterdir())


def test_a_folder_of_somebody_else_is_not_used(closed: Path) -> None:
    """A job may also lead the link to what it likes: only what is launcher's own is removed."""
    programs.folder(str(closed), "bin")
    (target,) = (closed.parent / "one").iterdir()
    target.chmod(0o777)
    os.unlink(closed / "bin")
    assert os.readlink(programs.folder(str(closed), "bin")).startswith(str(closed.parent / "two"))
    precious = closed.parent / "precious"
    precious.mkdir()
    os.unlink(closed / "bin")
    os.symlink(precious, closed / "bin")
    programs.remove(str(closed))
    assert precious.exists()
