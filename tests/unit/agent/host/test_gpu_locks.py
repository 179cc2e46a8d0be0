"""GPU locks: exclusive, all or nothing, and free to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import launcher.agent
from launcher.agent.host import gpu_locks

AGENT = Path(launcher.agent.__file__).parent


@pytest.fixture
def lease_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "leases"
    monkeypatch.setenv("LAUNCHER_LEASE_DIR", str(folder))
    return folder


HOLDER = "import sys; from launcher.agent.host import gpu_locks; gpu_locks.take([1, 2], 'theirs'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other(lease_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds GPUs 1 and 2."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=AGENT.parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_leases_exclude_each_other_all_or_nothing(
    other: subprocess.Popen[str], lease_folder: Path
) -> None:
    with pytest.raises(gpu_locks.Busy) as caught:
        gpu_locks.take([0, 1], "mine")
    assert (caught.value.index, caught.value.holder["run"]) == (1, "theirs")
    assert set(gpu_locks.held()) == {1, 2}, "0 was let go again"
    mine = gpu_locks.take([0], "mine")
    assert {index: holder["run"] for index, holder in gpu_locks.held().items()} == {
        0: "mine",
        1: "theirs",
        2: "theirs",
    }
    other.kill()
    other.wait()
    assert set(gpu_locks.held()) == {0}, "a crash frees leases"
    mine += gpu_locks.take([1, 2], "mine")
    for fd in mine:
        os.close(fd)
    assert gpu_locks.held() == {}


def test_nothing_is_kept_when_a_lease_cannot_be_opened(lease_folder: Path) -> None:
    lease_folder.mkdir()
    (lease_folder / "gpu-1").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        gpu_locks.take([0, 1], "mine")
    assert gpu_locks.held() == {}


LOOKER = "from launcher.agent.host import gpu_locks; print('looking', flush=True)\nwhile True: gpu_locks.held()"


def test_looking_at_leases_never_makes_a_gpu_busy(lease_folder: Path) -> None:
    os.close(gpu_locks.take([0], "before")[0])
    with subprocess.Popen(
        [sys.executable, "-c", LOOKER], stdout=subprocess.PIPE, cwd=AGENT.parent.parent
    ) as looker:
        try:
            assert looker.stdout is not None
            looker.stdout.readline()
            for _ in range(1000):
                os.close(gpu_locks.take([0], "mine")[0])
        finally:
            looker.kill()


def test_other_files_are_no_leases(lease_folder: Path) -> None:
    lease_folder.mkdir()
    (lease_folder / "gpu-x").touch()
    (lease_folder / "gpu-7").write_text(json.dumps({"user": "left over"}))
    assert gpu_locks.held() == {}
