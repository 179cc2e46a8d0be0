"""Damaged records: no command answers with an internal error, and one bad line costs one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.cli import cli
from launcher.records import catalog
from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.records.run_reader import RunReader
from launcher.runner.event_log import EventLog
from launcher.runner.session.journal_cursor import JournalCursor
from launcher.spec.errors import HostError, LauncherError
from support import ROOT

GOOD = ROOT / "tests" / "golden" / "0.2" / "stopped"
FILES = sorted(path.name for path in GOOD.iterdir() if not path.name.startswith("journal"))
COMMANDS = (
    ["ls"],
    ["ls", "--json"],
    ["show", "run", "--events"],
    ["show", "run", "--json"],
    ["logs", "run", "--merged", "--tail", "3"],
    ["logs", "run", "--since", "1h"],
)
#: What a receipt can hold and the golden one does not.
EVERYTHING = {
    "failure": {
        "host": "lab1",
        "key": "rank-1",
        "rank": 1,
        "exit_code": 1,
        "meaning": "exited with 1",
        "time": 2.0,
        "last_lines": ["a", "b"],
        "cause": "c",
        "hint": "h",
        "error": "e",
    },
    "others": [{"host": "lab2", "ranks": [2], "code": -9, "stopped": True, "keys": []}],
    "others_said": [{"ranks": [2], "places": ["lab2"], "line": "last"}],
    "outputs": [{"path": "m@lab1.json", "size": 5, "hosts": ["lab1"]}],
    "outputs_failed": {"lab2": "why"},
    "reason_host": "lab1",
}
#: What a JSON value may have become.
VALUES = (None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b", [], {}, [[]])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    monkeypatch.setattr("launcher.api.async_handle.bring", nothing_to_bring)
    monkeypatch.setattr("launcher.runner.ended_runs._visit", nobody_there)
    return tmp_path


async def nothing_to_bring(*_: object) -> dict[str, str]:
    """In place of asking hosts, of which there are none."""
    return {}


async def nobody_there(*_: object, **__: object) -> list[HostError]:
    return []


def run_in(home: Path) -> Path:
    """A good run in an empty home, with logs and their times."""
    shutil.rmtree(home / "runs", ignore_errors=True)
    path = home / "runs" / "run"
    shutil.copytree(GOOD, path)
    receipt = json.loads((path / "receipt.json").read_text())
    receipt |= EVERYTHING
    receipt["hosts"][0] |= {
        "expiry": {"time": 1.5, "silent": 20.0},
        "unsaved": "why",
        "departed": "",
    }
    (path / "receipt.json").write_text(json.dumps(receipt))
    (path / "logs" / "attempt-0").mkdir(parents=True)
    (path / "logs" / "attempt-0" / "boss-0.out").write_bytes(b"one\ntwo\nthree\nfour\n")
    (path / "times.jsonl").write_text('[1.5, "attempt-0/boss-0.out", 8]\n' * 2)
    return path


def trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-3:])


def all_commands(home: Path) -> None:
    """Every command that reads records ends well, or with an error of ours."""
    for words in COMMANDS:
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        error = done.exception
        assert error is None or isinstance(error, LauncherError), (words, repr(error), trace(error))
        if words[0] == "ls":
            assert error is None, error
            assert "run" in done.stdout


@pytest.mark.thorough
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([*FILES, "times.jsonl"]), st.data())
def test_any_damaged_byte_or_line(home: Path, name: str, data: st.DataObject) -> None:
    path = run_in(home) / name
    if data.draw(st.booleans(), "of a run that has not ended"):
        (path.parent / "receipt.json").unlink()
    whole = path.read_bytes() if path.exists() else b"{}"
    place = data.draw(st.integers(0, max(0, len(whole) - 1)), "place")
    kind = data.draw(st.sampled_from(["byte", "cut", "nuls", "line", "gone"]))
    if kind == "byte":
        byte = data.draw(st.integers(0, 255), "byte")
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    elif kind == "cut":
        path.write_bytes(whole[:place])
    elif kind == "nuls":
        path.write_bytes(whole[:place] + b"\0" * (len(whole) - place))
    elif kind == "line":
        lines = whole.split(b"\n")
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = data.draw(st.sampled_from([b"not json", b"[" * 5000, b"{}", b"\0\0", b"1"]))
        path.write_bytes(b"\n".join(lines))
    else:
        path.unlink(missing_ok=True)
    all_commands(home)


@pytest.mark.thorough
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(FILES), st.sampled_from(VALUES), st.data())
def test_any_value_of_another_type(
    home: Path, name: str, value: object, data: st.DataObject
) -> None:
    path = run_in(home) / name
    if data.draw(st.booleans(), "of a run that has not ended") and name != "receipt.json":
        (path.parent / "receipt.json").unlink()
    lines = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
    number = data.draw(st.integers(0, len(lines) - 1))
    whole = json.loads(lines[number])
    inner = [(whole, key) for key in (whole if isinstance(whole, dict) else range(len(whole)))]
    for holder, key in inner:
        if isinstance(holder[key], dict | list):
            found = holder[key]
            inner += [(found, k) for k in (found if isinstance(found, dict) else range(len(found)))]
    if not inner:
        return
    holder, key = data.draw(st.sampled_from(inner))
    holder[key] = value
    lines[number] = json.dumps(whole)
    path.write_text("\n".join(lines) + "\n")
    all_commands(home)


def test_a_damaged_line_costs_that_line_and_is_named(home: Path) -> None:
    path = run_in(home)
    lines = (path / "events.jsonl").read_bytes().splitlines()
    lines[3], lines[5] = b'{"event":"ProcessExited"}', b"\0\0\0\0"
    (path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert catalog.summary(path).status == "stopped"
    assert len(RunReader(path).events()) == len(lines)
    for words in (["ls"], ["show", "run"], ["logs", "run"]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.output
        assert f"{path}/events.jsonl:4 is damaged: time: is missing" in done.stderr
    assert "and 1 more" in done.stderr


def test_a_reader_in_the_middle_counts_lines_from_the_beginning(home: Path) -> None:
    path = run_in(home)
    reader = RunReader(path)
    count = len(reader.new_events())
    with (path / "events.jsonl").open("ab") as file:
        file.write(b"junk\n")
    (found,) = reader.new_events()
    assert isinstance(found, ev.RecordPassedOver)
    assert f"events.jsonl:{count + 1} is damaged" in found.problem


def test_a_damaged_line_is_had_from_the_journal_again(home: Path) -> None:
    path = run_in(home)
    lines = (path / "events.jsonl").read_bytes().splitlines()
    number = next(n for n, line in enumerate(lines) if b'"ProcessStarted"' in line)
    lost = json.loads(lines[number])
    lines[number] = b"junk"
    (path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    folder = RunFolder(path)
    log = EventLog(folder, lambda event: None)
    folder.close()
    cursor = JournalCursor(log.heard(lost["host"]))
    journal = (GOOD / f"journal-{lost['host']}.jsonl").read_bytes().splitlines()
    events = [cursor.take(lost["host"], json.loads(line), 0, 0.0) for line in journal]
    assert [event.seq for event in events if event] == [lost["seq"]]


@pytest.mark.parametrize("name", ["run.json", "receipt.json"])
def test_rm_forgets_a_run_that_cannot_be_read(home: Path, name: str) -> None:
    path = run_in(home)
    (path / name).write_text('{"started": "x"}')
    listed = CliRunner().invoke(cli, ["rm", "run", "--force"], standalone_mode=False)
    assert listed.exception is None, listed.output
    assert not path.exists()


def test_a_folder_that_is_none_is_one_line(home: Path) -> None:
    path = run_in(home)
    shutil.copytree(path, home / "runs" / "theirs")
    (home / "runs" / "theirs" / "events.jsonl").unlink()
    (home / "runs" / "theirs" / "events.jsonl").mkdir()
    found = {one.run: one for one in catalog.summaries()}
    assert found["run"].status == "stopped"
    assert found["theirs"].status == catalog.UNREADABLE
    assert "Is a directory" in found["theirs"].reason
    for words in (["show", "theirs"], ["logs", "theirs"]):
        done = CliRunner().invoke(cli, words, standalone_mode=False)
        assert isinstance(done.exception, LauncherError), repr(done.exception)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["events.jsonl", "run.json", "receipt.json", "launcher.lock", "follower.json"]
)
def test_a_pipe_in_place_of_a_record_holds_nobody_up(home: Path, name: str) -> None:
    path = run_in(home)
    shutil.copytree(path, home / "runs" / "theirs")
    (home / "runs" / "theirs" / name).unlink(missing_ok=True)
    os.mkfifo(home / "runs" / "theirs" / name)
    for words in (["ls", "--all"], ["show", "theirs"], ["rm", "-y", "theirs"]):
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *words], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert "internal error" not in done.stderr, done.stderr
        assert words[0] != "ls" or "stopped" in done.stdout, done.stdout


def test_a_follower_takes_over_a_run_with_a_damaged_record(home: Path) -> None:
    path = run_in(home)
    with (path / "events.jsonl").open("ab") as file:
        file.write(b"\0" * 100)
    folder = RunFolder(path)
    folder.record(ev.StageStarted(9.0, "run"))
    assert folder.events()[-1] == ev.StageStarted(9.0, "run"), (
        "the new record has a line of its own"
    )
    folder.close()
