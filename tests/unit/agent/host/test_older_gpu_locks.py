"""Locks of launcher 0.1: files that anybody may have written."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from launcher.agent.host import older_gpu_locks


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_LEASE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "written",
    [
        "[" * 4000,
        "[1,2]",
        '"x"',
        "1e999",
        "{}",
        '{"since":"yesterday","run":7,"user":[]}',
        '{"user":"root","run":"../etc","since":1e300}',
        "\x00" * 100,
        "\udcff",
    ],
    ids=range(9),
)
def test_what_is_written_in_it_is_typed(place: Path, written: str) -> None:
    """Only the kernel says whose it is."""
    (place / "gpu-1").write_text(written, "utf-8", "surrogateescape")
    with (place / "gpu-1").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (holder,) = older_gpu_locks.held([0, 1]).values()
    assert holder.get("uid") == os.getuid()
    assert not {"run", "since"} & set(holder)
    assert older_gpu_locks.held([0, 1]) == {}


def test_a_run_that_holds_it_is_named(place: Path) -> None:
    (place / "gpu-0").write_text('{"run":"calm-owl-1","since":5.0,"user":"somebody else"}')
    with (place / "gpu-0").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (holder,) = older_gpu_locks.held([0]).values()
    assert (holder["run"], holder["since"]) == ("calm-owl-1", 5.0)
    assert holder["user"] != "somebody else"
