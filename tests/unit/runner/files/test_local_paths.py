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


def test_words_that_are_files_here_and_are_not_copied(places: tuple[Path, Path]) -> None:
    """Also those of a shell command, but for folders that are written to and what hosts get."""
    work, _ = places
    (work / "data").mkdir()
    (work / "data" / "train.bin").touch()
    (work / "last.ckpt").touch()
    (work / "out").mkdir()
    (work / "out" / "a.txt").touch()
    words = ("train.py", "--data", "data/", "--resume=last.ckpt", "--out-dir", "out", "conf", ".")
    copied = (b"conf/a.yaml", b"train.py")
    job = Job(run=(*words, "../data", "nowhere"), workdir=str(work))
    (work.parent / "data" / "x").touch()
    found = local_paths.missed(job, copied)
    assert found == local_paths.Missed(("data", "last.ckpt"), ("../data",))
    script = Job(
        run=("cd . && python train.py --data='data'  # out",), shell=True, workdir=str(work)
    )
    assert local_paths.missed(script, copied).paths == ("data",)
    output = Job(run=("train.py", "out"), outputs=("out/",), workdir=str(work))
    assert not local_paths.missed(output, copied), "the run writes it"


def test_words_that_lead_into_an_output(places: tuple[Path, Path]) -> None:
    """They are given to all hosts; the output itself is for the run to write."""
    work, _ = places
    (work / "out" / "epoch_2").mkdir(parents=True)
    (work / "out" / "epoch_2" / "a.pt").touch()
    words = ("train.py", "--resume", "out/epoch_2/", "out", "conf", "out/none")
    job = Job(run=words, outputs=("./out/",), workdir=str(work))
    assert local_paths.into_outputs(job) == ("out/epoch_2",)
    assert not local_paths.missed(job, (b"conf/a.yaml", b"train.py"))
