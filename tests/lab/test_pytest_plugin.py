"""The mark that runs a test on every rank, in a project of its own, on embedded hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support import ROOT

TESTS = """
import os
import pytest
from helper import doubled

@pytest.mark.ranks(nodes=2, nproc_per_node=2)
def test_all_four(tmp_path_factory_name):
    assert os.environ["WORLD_SIZE"] == "4"
    assert doubled(tmp_path_factory_name) == "xx"

@pytest.mark.ranks(nproc_per_node=2)
def test_one_fails():
    rank = int(os.environ["RANK"])
    assert rank == 0, f"this is rank {rank}"

def test_here():
    assert "RANK" not in os.environ

@pytest.mark.ranks(4)
def test_a_wrong_mark():
    pass
"""
CONFTEST = """
import pytest
pytest_plugins = ["launcher.integrations.pytest"]

@pytest.fixture
def tmp_path_factory_name():
    return "x"
"""


def test_a_marked_test_runs_on_every_rank(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "helper.py").write_text("def doubled(text):\n    return text * 2\n")
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_ranks.py").write_text(TESTS)
    (project / "pytest.ini").write_text("[pytest]\n")
    env = {**os.environ, "LAUNCHER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        argv, cwd=project, env=env, capture_output=True, text=True, check=False, timeout=110
    )
    assert "2 failed, 2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "ValueError" not in ran.stdout
    assert "rank-1 on local1: AssertionError: this is rank 1" in ran.stdout
    assert "ranks takes nodes=... and nproc_per_node=..., by name" in ran.stdout
    runs = [path.name for path in (tmp_path / "home" / "runs").iterdir()]
    assert [name.rpartition("-")[0] for name in runs] == ["test-one-fails"], "others are removed"
