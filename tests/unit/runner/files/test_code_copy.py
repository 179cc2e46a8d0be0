"""The copy of the code that runs execute later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.api.jobs import make_job
from launcher.runner.files import code_copy, code_here
from launcher.spec.errors import LauncherError


def test_a_copy_is_the_code_as_it_was(tmp_path: Path) -> None:
    work = tmp_path / "work folder"
    (work / "deep").mkdir(parents=True)
    (work / "train.py").write_text("first")
    (work / "deep" / "tool.sh").write_text("#!/bin/sh\n")
    (work / "deep" / "tool.sh").chmod(0o755)
    (work / "link").symlink_to("train.py")
    (work / ".gitignore").write_text("*.bin\n")
    (work / "weights.bin").write_text("large")
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (work / "train.py").write_text("edited")
    job = make_job(run=("train.py",), workdir=str(work))
    before = code_here.read(job, tmp_path / "nothing")
    code_copy.keep(job, tmp_path / "copy")
    (work / "train.py").write_text("edited again")
    found = code_copy.read(job, str(tmp_path / "copy"))
    assert found.source.version == before.source.version
    assert found.source.identity == before.source.identity
    assert found.source.paths == before.source.paths
    assert found.revision == before.revision
    assert b"+edited" in found.revision.diff


def test_a_copy_that_is_gone_or_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "train.py").touch()
    job = make_job(run=("train.py",), workdir=str(tmp_path / "work"))
    with pytest.raises(LauncherError, match="cannot read the copy of the code in "):
        code_copy.read(job, str(tmp_path / "copy"))
    (tmp_path / "file").touch()
    with pytest.raises(LauncherError, match="cannot copy "):
        code_copy.keep(job, tmp_path / "file")
