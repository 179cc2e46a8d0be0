"""What is left of a run on a host is found, and ended: also what hides, and what stands still."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import plain_files, run_lock
from launcher.agent.host import run_folders

OWNER = """
import fcntl, os, signal, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "calm-hare" / "logs" / "attempt-0").mkdir(parents=True)
    return tmp_path / "runs" / "calm-hare"


@contextmanager
def owned(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-c", OWNER, str(run_dir / "supervisor.lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout
            assert owner.stdout.readline() == b"held\n"
            yield owner
        finally:
            owner.kill()


@contextmanager
def hidden(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process without any mark, in a session of its own, as `setsid env -i sleep &` leaves it."""
    with open(run_dir / "logs" / "attempt-0" / "rank-0.out", "ab") as log:
        words = ["env", "-i", "sleep", "77"]
        with subprocess.Popen(words, stdout=log, start_new_session=True) as process:
            try:
                yield process
            finally:
                process.kill()


def sweep(run_dir: Path, kill: bool = True, seconds: float = 0.3) -> dict[str, object]:
    return run_folders.sweep(str(run_dir), "calm-hare", "lab1", kill, seconds)


def test_a_process_that_took_off_its_mark_is_found_by_where_it_writes(run_dir: Path) -> None:
    with hidden(run_dir) as process:
        (left,) = sweep(run_dir, kill=False)["left"]  # type: ignore[misc]
        assert left["pid"] == process.pid
        assert sweep(run_dir, seconds=20.0)["killed"] == 1  # it ends once nothing is left
        assert process.wait(20) == -signal.SIGKILL
        assert sweep(run_dir)["left"] == []


def test_it_is_a_stray_once_nobody_owns_its_run(run_dir: Path) -> None:
    base = str(run_dir.parent)
    with hidden(run_dir) as process, open(run_dir / "supervisor.log", "ab") as log:
        with owned(run_dir), subprocess.Popen(["sleep", "77"], stdout=log) as innocent:
            assert innocent.pid not in run_folders.strays(base)
            innocent.kill()
            assert process.pid not in run_folders.strays(base)
        assert run_folders.strays(base) == {process.pid: str(run_dir)}
        run_folders.end_strays_of(str(run_dir))
        assert process.wait(20) == -signal.SIGKILL


def test_what_a_build_has_left_is_ended_once_nobody_builds(tmp_path: Path) -> None:
    """Agent and guard were killed at once, and what uv had started goes on."""
    (tmp_path / "envs" / "locks").mkdir(parents=True)
    log, lock = tmp_path / "envs" / "0a1b.42.log", tmp_path / "envs" / "locks" / "0a1b"
    with (
        log.open("wb") as file,
        lock.open("w") as held,
        subprocess.Popen(
            ["env", "-i", "sleep", "77"], stdout=file, start_new_session=True
        ) as process,
    ):
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert run_folders.end_strays(str(tmp_path)) == 0
            fcntl.flock(held, fcntl.LOCK_UN)
            assert run_folders.end_strays(str(tmp_path)) == 1
            assert process.wait(20) == -signal.SIGKILL
        finally:
            process.kill()


def test_a_supervisor_that_stands_still_is_ended_by_the_sweep(run_dir: Path) -> None:
    with owned(run_dir) as owner:
        assert run_lock.owner(str(run_dir)) == owner.pid
        os.kill(owner.pid, signal.SIGSTOP)
        assert sweep(run_dir, kill=False)["killed"] == 0
        assert run_lock.is_alive(str(run_dir))
        found = sweep(run_dir)
        assert (found["killed"], found["left"]) == (1, [])
        assert owner.wait(20) == -signal.SIGKILL


def test_one_that_leaves_in_time_is_not(run_dir: Path) -> None:
    with owned(run_dir) as owner:
        owner.send_signal(signal.SIGTERM)
        assert sweep(run_dir, seconds=20.0)["killed"] == 0
        assert owner.wait(20) == -signal.SIGTERM


PLACES = ("journal.jsonl", "run.json", "code.list", "groups", "supervisor.lock")


@pytest.mark.parametrize("name", PLACES)
def test_a_pipe_in_place_of_a_file_holds_nobody_up(run_dir: Path, name: str) -> None:
    """A rank may put one there: it belongs to the same user."""
    os.mkfifo(run_dir / name)
    asks = """
import sys
from launcher.agent.base.journal import Journal
from launcher.agent.host import run_folders
from launcher.agent.relay import written
run, root = sys.argv[1:]
print([one["run"] for one in run_folders.runs(root)["runs"]], run_folders.standing(run)["alive"])
run_folders.end_strays(root), written.snapshot_of(run), run_folders.sweep(run, "calm-hare", "h", False, 0)
try:
    Journal(run + "/journal.jsonl")
except OSError as error:
    print(error.strerror)
"""
    words = [sys.executable, "-c", asks, str(run_dir), str(run_dir.parents[1])]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=90)
    said = ["['calm-hare'] False", *(["it is no regular file"] if name.startswith("jour") else [])]
    assert done.stdout.splitlines() == said


def test_a_run_whose_folder_was_closed_costs_the_others_nothing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a script in a container may do, by chown. Root is let in all the same."""

    def closed(path: str, flags: int = 0) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(plain_files, "opened", closed)
    found = run_folders.runs(str(run_dir.parents[1]))["runs"]
    assert [(one["run"], one["record"], one["started"]) for one in found] == [
        ("calm-hare", None, False)
    ]
    assert run_folders.standing(str(run_dir))["expiry"] is None


def test_a_run_waits_again_until_something_of_it_is_started(run_dir: Path) -> None:
    def again(*events: dict[str, Any]) -> int:
        lines = [json.dumps({"seq": n, **one}) + "\n" for n, one in enumerate(events)]
        (run_dir / "journal.jsonl").write_text("".join(lines))
        (there,) = run_folders.runs(str(run_dir.parents[1]))["runs"]
        assert there["started"]
        return int(there["again"])

    ran = {"event": "ProcessStarted", "key": "rank-0"}
    back = {"event": "WaitsAgain", "attempt": 1}
    assert again(ran) == 0
    assert again(ran, {"event": "HostEnded"}, back) == 1
    assert again(ran, back, ran) == 0
    assert again(ran, back, ran, {**back, "attempt": 2}) == 2
