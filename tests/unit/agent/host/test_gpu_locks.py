"""GPU locks: exclusive, all or nothing, free to look at, and locks of 0.1 beside them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import launcher.agent
from launcher.agent.host import gpu_locks, socket_names

AGENT = Path(launcher.agent.__file__).parent


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Names of locks that no other test has, and no locks of 0.1."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    return str(tmp_path)


HOLDER = "import sys; from launcher.agent.host import gpu_locks; held = gpu_locks.take([1, 2], 'theirs'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other(scope: str) -> Iterator[subprocess.Popen[str]]:
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


def test_gpu_locks_exclude_each_other_all_or_nothing(other: subprocess.Popen[str]) -> None:
    with pytest.raises(gpu_locks.Busy) as caught:
        gpu_locks.take([0, 1], "mine")
    assert (caught.value.index, caught.value.holder["run"]) == (1, "theirs")
    assert set(gpu_locks.held()) == {1, 2}, "0 was let go again"
    mine = gpu_locks.take([0], "mine")
    assert {index: holder["run"] for index, holder in gpu_locks.held().items()} == {
        0: "mine", 1: "theirs", 2: "theirs"
    }  # fmt: skip
    other.kill()
    other.wait()
    assert set(gpu_locks.held()) == {0}, "a crash frees locks"
    mine += gpu_locks.take([1, 2], "mine")
    for lock in mine:
        lock.close()
    assert gpu_locks.held() == {}


LOOKER = "from launcher.agent.host import gpu_locks; print('looking', flush=True)\nwhile True: gpu_locks.held()"


@pytest.mark.thorough
def test_looking_at_gpu_locks_never_makes_one_busy(scope: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOOKER], stdout=subprocess.PIPE, cwd=AGENT.parent.parent
    ) as looker:
        try:
            assert looker.stdout is not None
            looker.stdout.readline()
            for _ in range(1000):
                for lock in gpu_locks.take([0], "mine"):
                    lock.close()
        finally:
            looker.kill()


def test_an_old_kernel_tells_the_holder_through_a_connection(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as nobody fills the queue of lookers, which a supervisor empties."""
    monkeypatch.setattr(socket_names, "_uid_by_inode", lambda inode: None)
    locks = gpu_locks.take([0], "mine")
    assert gpu_locks.held()[0]["uid"] == os.getuid()
    for _ in range(socket_names.QUEUE):
        gpu_locks.held()
    assert gpu_locks.held() == {0: {}}
    socket_names.drain(locks)
    assert gpu_locks.held()[0]["run"] == "mine"
    for lock in locks:
        lock.close()


def test_a_lock_that_is_connected_elsewhere_counts(scope: str) -> None:
    """Whoever has the name has the lock; an index beyond all is none."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as strange:
        server.bind("")
        server.listen()
        strange.bind(socket_names.prefix() + b"gpu/4")
        strange.connect(server.getsockname())
        with socket.socket(socket.AF_UNIX) as beyond:
            beyond.bind(socket_names.prefix() + b"gpu/99999999999999999999")
            assert {i: h.get("uid") for i, h in gpu_locks.held().items()} == {4: os.getuid()}


def test_locks_of_0_1_count_and_nothing_else_there_does(
    scope: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "leases"
    monkeypatch.setenv("LAUNCHER_LEASE_DIR", str(folder))
    assert gpu_locks.held() == {}
    folder.mkdir()
    (folder / "gpu-1").symlink_to("/etc/passwd")
    os.mkfifo(folder / "gpu-2")
    (folder / "gpu-x").touch()
    (folder / "gpu-7").write_text(json.dumps({"user": "left over"}))
    (folder / "gpu-8").write_text(json.dumps({"user": "x", "run": "calm-owl-1", "since": 1.5}))
    os.link(folder / "gpu-7", folder / "gpu-3")
    with (folder / "gpu-8").open() as eight, (folder / "gpu-3").open() as linked:
        fcntl.flock(eight, fcntl.LOCK_EX)
        fcntl.flock(linked, fcntl.LOCK_EX)
        (holder,) = gpu_locks.held().values()
        assert (holder["uid"], holder["run"]) == (os.getuid(), "calm-owl-1")
        assert holder["user"] != "x"
        with pytest.raises(gpu_locks.Busy):
            gpu_locks.take([8], "mine")
        assert set(gpu_locks.held()) == {8}
    locks = gpu_locks.take([1, 2, 3, 8], "mine")
    with (folder / "gpu-8").open() as eight, pytest.raises(BlockingIOError):
        fcntl.flock(eight, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for lock in locks:
        lock.close()


def test_a_mig_instance_and_its_gpu_exclude_each_other(scope: str) -> None:
    """1013 is instance 3 of GPU 1: other instances of it, and other GPUs, are free."""
    instance = gpu_locks.take([1013], "mine")
    with pytest.raises(gpu_locks.Busy) as caught:
        gpu_locks.take([1], "theirs")
    assert caught.value.index == 1013
    others = gpu_locks.take([1012, 0], "theirs")
    assert {i: holder["run"] for i, holder in gpu_locks.held().items()} == {
        1013: "mine", 1012: "theirs", 0: "theirs"
    }  # fmt: skip
    for lock in [*instance, *others]:
        lock.close()
    whole = gpu_locks.take([1], "theirs")
    with pytest.raises(gpu_locks.Busy) as caught:
        gpu_locks.take([1013], "mine")
    assert (caught.value.index, caught.value.holder["run"]) == (1, "theirs")
    for lock in whole:
        lock.close()


def test_numbers_of_mig_instances_are_the_same_on_both_sides() -> None:
    from launcher.agent.host import nvidia
    from launcher.spec import gpus

    assert (nvidia.MIG, nvidia.MIG_EACH) == (gpus.MIG, gpus.MIG_EACH)
    assert [gpu_locks.parent_of(i) for i in (3, 1013)] == [gpus.parent_of(i) for i in (3, 1013)]
