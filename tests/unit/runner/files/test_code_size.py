"""Large code: who is asked, what is named, and what is proposed to stay here."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runner.files import code_size, code_snapshot
from launcher.spec.model import Job

GB = 1_000_000_000


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job in a folder with a script, 300 MB of data, and 250 MB beside the script's own package."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    for name, size in (
        ("data/train.bin", 300_000_000),
        ("pkg/w.bin", 100_000_000),
        ("train.py", 1),
    ):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        with (work / name).open("wb") as file:
            file.truncate(size)
    return Job(run=("pkg/main.py",), workdir=str(work))


def test_what_is_large_is_named_and_may_stay_here(job: Job) -> None:
    found = code_size.of_job(job)
    assert found is not None
    assert (found.bytes, found.files) == (400_000_001, 3)
    assert found.largest[:2] == (("data/", 300_000_000), ("pkg/", 100_000_000))
    assert found.proposed == ("data/",)
    code_size.leave_out(found)
    assert code_size.of_job(job) is None
    assert b"data/train.bin" not in code_snapshot.read(Path(job.workdir)).paths


def test_who_agreed_is_not_asked_again_before_it_grows(job: Job) -> None:
    found = code_size.of_job(job)
    assert found is not None
    code_size.agree(found)
    assert code_size.of_job(job) is None
    with Path(job.workdir, "more.bin").open("wb") as file:
        file.truncate(300_000_000)
    assert code_size.of_job(job) is not None


def test_lines_are_added_to_an_ignore_file(job: Job) -> None:
    found = code_size.of_job(job)
    assert found is not None
    file = Path(job.workdir, ".launcherignore")
    file.write_text("notes")
    code_size.leave_out(found)
    assert file.read_text() == "notes\n/data/\n"


def test_a_folder_with_the_script_never_stays_here() -> None:
    sizes = {"src/": 3 * GB, "data/": GB}
    assert code_size.proposed(sizes, 4 * GB, ("src/train.py",)) == ()
    assert code_size.proposed(sizes, 4 * GB, ("train.py",)) == ("src/", "data/")


def test_environments_and_caches_are_no_code(tmp_path: Path) -> None:
    for name in (
        "train.py",
        "my env/pyvenv.cfg",
        "my env/bin/python",
        "conda/conda-meta/history",
        "conda/lib/x.so",
        ".mypy_cache/3.11/a.json",
        "conda.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert code_snapshot.read(tmp_path).paths == (b"conda.py", b"train.py")
