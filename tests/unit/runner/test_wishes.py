"""What another process asks of a follower never reaches an innocent process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.records import run_lock
from launcher.records.run_folder import RunFolder
from launcher.records.run_lock import Follower
from launcher.runner import wishes
from launcher.spec.errors import LauncherError, RecordError

#: Holds the lock as a follower before wishes did, with a pid of its own or that of somebody else.
OLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGINT, lambda *_: os._exit(42))
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, (sys.argv[2] or str(os.getpid())).encode())
print("held", flush=True)
signal.pause()
"""


@contextmanager
def older(folder: Path, pid: str = "") -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-c", OLDER, str(folder / "launcher.lock"), pid]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_an_older_follower_is_signalled(tmp_path: Path) -> None:
    with older(tmp_path) as process:
        wishes.ask_stop(tmp_path, 1.0)
        assert process.wait(20) == 42


@pytest.mark.parametrize("ask", [lambda path: wishes.ask_stop(path, 1.0), wishes.ask_pull])
def test_an_innocent_process_with_the_pid_of_a_follower_elsewhere_is_not(
    tmp_path: Path, ask: object
) -> None:
    with subprocess.Popen(["sleep", "60"]) as innocent:
        try:
            with (
                older(tmp_path, str(innocent.pid)),
                pytest.raises(LauncherError, match="on another machine"),
            ):
                ask(tmp_path)  # type: ignore[operator]
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_follower_says_on_which_machine_it_is(tmp_path: Path) -> None:
    with closing(RunFolder(tmp_path)) as folder:
        assert folder.hold()
        me = run_lock.follower(tmp_path)
        assert me == Follower.this_process()
        assert str(me) == f"process {os.getpid()}"
        folder.write("follower.json", {"pid": os.getpid(), "host": "laptop-2", "boot": "x"})
        assert str(run_lock.follower(tmp_path)) == f"process {os.getpid()} on laptop-2"
        folder.write("follower.json", {"pid": 1, "host": "laptop-2"})
        assert run_lock.follower(tmp_path) == Follower(os.getpid()), "of a follower before"
    assert run_lock.follower(tmp_path) is None


def test_a_run_without_a_lock_has_nobody_to_signal(tmp_path: Path) -> None:
    wishes.ask_stop(tmp_path, 1.0)
    wishes.ask_pull(tmp_path)


@pytest.mark.parametrize("ask", [lambda path: wishes.ask_stop(path, 1.0), wishes.ask_pull])
def test_a_wish_that_cannot_be_written_is_an_error_of_this_machine(
    tmp_path: Path, ask: object
) -> None:
    for name in ("stop.json", "pull.json"):
        (tmp_path / name).mkdir()
    with pytest.raises(RecordError, match="cannot write"):
        ask(tmp_path)  # type: ignore[operator]


@pytest.mark.parametrize("text", ['{"asked": {}}', '{"asked": [1]}', "[1]", "", "\0\0"])
def test_a_damaged_wish_asks_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "stop.json").write_text(text)
    with closing(RunFolder(tmp_path)) as folder:
        assert not wishes.Wishes(folder).stop_pending


def test_a_wish_to_be_moved_is_carried_out_once_by_whoever_follows_next(tmp_path: Path) -> None:
    """It may be older than the follower, which had just taken the lock of the run."""
    moved: list[tuple[int | None, bool]] = []

    async def follow(folder: RunFolder, until: int) -> None:
        run: Any = SimpleNamespace(move=lambda *wish: moved.append(wish))
        following = asyncio.ensure_future(wishes.Wishes(folder).carry_out(run))
        async with asyncio.timeout(60):
            while len(moved) < until:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(wishes.LOOK)
        await asyncio.sleep(2 * wishes.LOOK)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    with closing(RunFolder(tmp_path)) as folder:
        wishes.ask_move(tmp_path, -1, False)
        asyncio.run(follow(folder, 1))
        asyncio.run(follow(folder, 1))
        assert moved == [(-1, False)]
        wishes.ask_move(tmp_path, None, True)
        asyncio.run(follow(folder, 2))
        assert moved[1:] == [(None, True)]
