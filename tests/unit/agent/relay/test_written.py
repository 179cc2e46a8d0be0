"""What a run wrote beside its outputs, told from a list of its copy of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.relay import tree, written


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose copy of the code has two files, a link and a folder."""
    source = tmp_path / "source"
    (source / "incoming-1" / "pkg").mkdir(parents=True)
    (source / "incoming-1" / "train.py").write_text("1")
    (source / "incoming-1" / "pkg" / "a b.py").write_text("2")
    (source / "incoming-1" / "link").symlink_to("train.py")
    version = tree.seal(str(source), "incoming-1")
    run = tmp_path / "run"
    run.mkdir()
    assert tree.snapshot(str(source), version, str(run / "code"))
    return run


def found(run_dir: Path) -> list[tuple[str, int, int]]:
    files, noted, known = written.listing(str(run_dir), lambda: None)
    return written.summary(files, noted.unreadable, known)


def test_the_code_itself_is_nothing_that_the_run_wrote(run_dir: Path) -> None:
    assert found(run_dir) == []


def test_new_and_replaced_files_are(run_dir: Path) -> None:
    code = run_dir / "code"
    (code / "runs" / "today").mkdir(parents=True)
    (code / "runs" / "today" / "events").write_bytes(b"x" * 10)
    (code / "runs" / "other").write_bytes(b"x" * 5)
    (code / "pkg" / "new").mkdir()
    (code / "pkg" / "new" / "log").write_bytes(b"x" * 3)
    (code / "pkg" / "__pycache__").mkdir()
    (code / "pkg" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (code / "train.py").unlink()
    (code / "train.py").write_text("edited")
    assert found(run_dir) == [("runs/", 2, 15), ("train.py", 1, 6), ("pkg/new/", 1, 3)]


def test_a_copy_of_a_run_leaves_out_what_that_run_wrote(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "code" / "results.csv").write_text("1")
    other = tmp_path / "other"
    other.mkdir()
    known = written.snapshot_of(str(run_dir))
    assert tree.link_tree(str(run_dir / "code"), str(other / "code"), known)
    names = {path.relative_to(other / "code").as_posix() for path in (other / "code").rglob("*")}
    assert names == {"train.py", "pkg", "pkg/a b.py", "link"}
    assert found(other) == []


def test_a_run_of_a_version_without_lists_names_nothing(run_dir: Path) -> None:
    (run_dir / tree.SNAPSHOT).unlink()
    (run_dir / "code" / "results.csv").write_text("1")
    assert found(run_dir) == []


def test_the_smallest_files_that_fit() -> None:
    files = [("a", 5, 0), ("b", 1, 0), ("c", 4, 0)]
    assert [one[0] for one in written.smallest(files, 5)] == ["b", "c"]


def test_many_paths_are_counted() -> None:
    files = [(f"file-{number}", number, 0) for number in range(written.MOST + 3)]
    rows = written.summary(files, [], set())
    assert len(rows) == written.MOST + 1
    assert rows[-1] == ("", 3, 0 + 1 + 2)
