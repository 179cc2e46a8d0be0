"""`make flakes` names what failed, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support import ROOT, flakes

#: The first passes, the second is skipped; the third and the fourth do not pass.
SUITE = """
import pytest

def test_fine(): pass

@pytest.mark.skip
def test_elsewhere(): pass

def test_wrong(): assert False, "as it is"

@pytest.fixture
def broken(): raise OSError

def test_unready(broken): pass
"""


def play(tmp_path: Path, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_some.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "support.flakes", *words, "--select", str(tmp_path)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "tests"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_each_round_is_reported_and_what_failed_is_named(tmp_path: Path) -> None:
    ran = play(tmp_path, SUITE, "2", "--spin", "0")
    assert ran.returncode == 1, ran.stderr
    lines = ran.stdout.splitlines()
    assert [" 1 passed, 2 failed, exit code 1: " in line for line in lines[:2]] == [True, True]
    assert "as it is" in Path(lines[0].rpartition(": ")[2]).read_text()
    assert lines[2] == "2 of 2 rounds failed"
    assert sorted(line.rpartition("::")[2] for line in lines[3:]) == ["test_unready", "test_wrong"]
    assert all(line.startswith("  2 times  ") for line in lines[3:])


def test_a_suite_that_passes_leaves_no_file(tmp_path: Path) -> None:
    ran = play(tmp_path, "def test_fine(): pass", "1", "--spin", "1")
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "0 of 1 rounds failed"), ran.stdout
    assert not list(tmp_path.glob("flakes-*"))


def test_a_round_that_fails_without_a_test_counts(tmp_path: Path) -> None:
    ran = play(tmp_path, "def test_fine(: pass", "1", "--spin", "0")
    assert ran.returncode == 1
    assert "1 of 1 rounds failed" in ran.stdout


def test_spinning_ends_with_its_block() -> None:
    def spin() -> None:
        with flakes.spinning(2):
            assert len(psutil.Process().children()) == before + 2
            raise KeyboardInterrupt

    before = len(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        spin()
    assert len(psutil.Process().children()) == before
