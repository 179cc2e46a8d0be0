"""The run folder: log files that take every byte once, and files that appear whole."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.records import events as ev
from launcher.records import log_file, run_lock
from launcher.records.log_file import LogFile
from launcher.records.run_folder import RunFolder
from launcher.records.run_lock import RunLock
from launcher.spec.errors import LauncherError, RecordError
from support.descriptors import few_descriptors

Pieces = list[tuple[int, int]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    made = RunFolder.create("ddp")
    yield made
    made.close()


# -- logs


PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6)


@settings(max_examples=30)
@given(PIECES)
def test_every_byte_once(tmp_path_factory: pytest.TempPathFactory, pieces: Pieces) -> None:
    whole = bytes(range(60))
    log = LogFile(tmp_path_factory.mktemp("logs") / "attempt-0" / "rank-0.out")
    new = b""
    for offset, size in [*pieces, (0, 60)]:
        offset = min(offset, log.size)
        new += log.write(offset, whole[offset : offset + size])
    assert new == whole == log.path.read_bytes()
    assert log.tail(10) == whole[-10:]
    log.close()


def test_a_gap_is_an_error(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "rank-0.out")
    log.write(0, b"abc")
    with pytest.raises(LauncherError, match=r"rank-0\.out: a piece is missing before byte 4"):
        log.write(4, b"x")
    assert log.path.read_bytes() == b"abc"
    log.close()


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    first = LogFile(tmp_path / "log")
    first.write(0, b"abc")
    first.close()
    second = LogFile(tmp_path / "log")
    assert second.size == 3
    assert second.write(1, b"bcd") == b"d"
    assert second.path.read_bytes() == b"abcd"
    second.close()


def test_a_disk_that_takes_only_a_part(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    data = os.urandom(8192)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(LauncherError, match="cannot write") as caught:
            log.write(0, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "free some space" in caught.value.hint
    log.write(0, data)
    assert log.path.read_bytes() == data
    log.close()


@pytest.mark.parametrize("name", ["attempt-0/rank-0.out", "attempt-12/node 3.err", "a/..b"])
def test_names_of_logs(name: str) -> None:
    assert log_file.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "rank-0.out", "/rank-0", "a/", "../x", "a/..", "./a", "a/b/c", "/etc/passwd", "a/\0"],
)
def test_a_host_cannot_name_logs_elsewhere(name: str) -> None:
    with pytest.raises(LauncherError, match="impossible name"):
        log_file.safe_name(name)


# -- the folder of a run


def test_json_appears_whole_or_not_at_all(folder: RunFolder) -> None:
    folder.write("plan.json", {"a": "größe"})
    with pytest.raises(TypeError):
        folder.write("plan.json", {"a": object()})
    (folder.path / "in the way").mkdir()
    with pytest.raises(RecordError, match="directory"):
        folder.write("in the way", {})
    (folder.path / "in the way").rmdir()
    assert json.loads((folder.path / "plan.json").read_text()) == {"a": "größe"}
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "events.jsonl",
        "follower.json",
        "launcher.lock",
        "plan.json",
    ]


def test_an_event_that_a_power_cut_tore_is_none(folder: RunFolder) -> None:
    folder.record(ev.StageStarted(1.0, "sync"))
    with (folder.path / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"StageSt')
    assert folder.events() == [ev.StageStarted(1.0, "sync")]


def test_a_runs_folder_is_private(folder: RunFolder) -> None:
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.log("attempt-0/rank-0.out")
    for path in (folder.path / "events.jsonl", folder.path / "logs" / "attempt-0" / "rank-0.out"):
        assert path.stat().st_mode & 0o077 == 0


# -- many logs


@pytest.mark.thorough
def test_a_thousand_ranks_with_both_streams_need_few_descriptors(folder: RunFolder) -> None:
    names = [f"attempt-0/rank-{rank}.{stream}" for rank in range(1000) for stream in ("out", "err")]
    with few_descriptors(40):
        for piece in range(2):
            for name in names:
                folder.log(name).write(piece * 4, b"line")
        assert folder.log(names[0]).tail(6) == b"neline"
    assert folder.log_names() == sorted(names)
    assert {folder.log(name).size for name in names} == {8}


def test_who_looks_at_a_run_keeps_nobody_from_following_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes the lock for a moment; a process that follows keeps it."""
    folder = RunFolder(tmp_path)
    with (tmp_path / "launcher.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(other, fcntl.LOCK_UN))
        assert folder.hold()
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    folder.close()
    folder = RunFolder(tmp_path)
    with (tmp_path / "launcher.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it is followed"))
        assert not folder.hold()
    folder.close()


def test_who_let_go_of_a_run_is_not_taken_for_the_next_to_follow_it(tmp_path: Path) -> None:
    """The next one has the lock before it has written its pid."""
    folder = RunFolder(tmp_path)
    assert folder.hold()
    assert run_lock.holder(tmp_path) == os.getpid()
    looking = RunFolder(tmp_path)
    looking.close()
    assert run_lock.holder(tmp_path) == os.getpid(), "it looked, and did not let go"
    kept = os.dup(folder._lock._fd)  # as in a child, until it executes its program
    folder.close()
    assert run_lock.holder(tmp_path) is None
    os.close(kept)
    with (tmp_path / "launcher.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run_lock.holder(tmp_path) == 0


def test_a_run_that_is_handed_over_is_held_all_the_time(folder: RunFolder) -> None:
    """Or others would take it for one whose launcher has died."""
    made = RunFolder.create("ddp")
    lock = made.hand_over()
    assert run_lock.holder(made.path) == 0, "by a process that has not said which it is"
    other = RunFolder.open(made.path)
    assert not other.hold()
    heir = RunFolder(made.path, RunLock(made.path, lock))
    assert heir.hold()
    assert run_lock.holder(made.path) == os.getpid()
    heir.close()
    assert run_lock.holder(made.path) is None
    other.close()
