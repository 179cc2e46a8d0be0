"""Arguments that are paths of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.runner.files import local_paths
from launcher.spec.model import Job


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The workdir, with a configuration, and a folder of data beside it."""
    (tmp_path / "work" / "conf").mkdir(parents=True)
    (tmp_path / "work" / "conf" / "a.yaml").touch()
    (tmp_path / "work" / "train.py").touch()
    (tmp_path / "data").mkdir()
    return tmp_path / "work", tmp_path / "data"


def test_those_that_exist_here_are_named(places: tuple[Path, Path]) -> None:
    work, data = places
    words = (
        "train.py",
        "--data",
        str(data),
        f"--config={work}/conf/a.yaml",
        "/nowhere",
        "/dev/null",
    )
    found = local_paths.found(Job(run=words, workdir=str(work)))
    assert [(one.argument, one.inside) for one in found] == [
        (f"--data {data}", None),
        (f"--config={work}/conf/a.yaml", "conf/a.yaml"),
    ]
    needed = Job(run=words[:3], workdir=str(work), needs=(str(data),))
    assert local_paths.found(needed) == (), "launcher looks for it on the hosts"


def test_a_script_by_its_whole_path(places: tuple[Path, Path]) -> None:
    work, _ = places
    job = Job(run=(f"{work}/train.py", "--lr", "1"), workdir=str(work))
    assert local_paths.with_relative_script(job).run == ("train.py", "--lr", "1")
    elsewhere = Job(run=(f"{work}/train.py",), workdir=str(work / "conf"))
    assert local_paths.with_relative_script(elsewhere) == elsewhere
