"""Records that each version has left are read by this one: see golden/make.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher.cli import cli
from launcher.records import codec
from launcher.records import events as ev
from launcher.records import receipt as receipts
from launcher.records.state import RunState, fold
from launcher.spec.version import __version__
from support import ROOT

GOLDEN = ROOT / "tests" / "golden"
FOLDERS = sorted(path for path in GOLDEN.glob("*/*") if path.is_dir())

#: Status, exit code, attempt and the code of every process, by run.
ENDS: dict[str, tuple[str, int, int, set[tuple[str, int | None]]]] = {
    "restarted": ("succeeded", 0, 1, {("node-0", 0), ("node-1", 0)}),
    "stopped": ("stopped", 130, 0, {("boss-0", -15), ("worker-0", -15), ("worker-1", -15)}),
}

golden = pytest.mark.parametrize("path", FOLDERS, ids=lambda p: f"{p.parent.name}-{p.name}")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def ends(state: RunState) -> set[tuple[str, int | None]]:
    return {(process.key, process.code) for process in state.processes.values()}


def test_there_are_records_of_this_version_and_of_the_one_before() -> None:
    assert {path.parent.name for path in FOLDERS} >= {"0.1", ".".join(__version__.split(".")[:2])}


@golden
def test_events_are_read_and_fold_to_what_the_receipt_says(path: Path) -> None:
    lines = (path / "events.jsonl").read_bytes()
    events = ev.decode_lines(lines, path / "events.jsonl")
    assert len(events) == len(lines.splitlines()), "every kind is known"
    state, receipt = fold(events), receipts.read(read(path / "receipt.json"))
    status, exit_code, attempt, codes = ENDS[path.name]
    assert (state.status, state.attempt, ends(state)) == (status, attempt, codes)
    assert (receipt.status, receipt.exit_code) == (status, exit_code)
    assert receipt.reason == state.reason
    assert {host.host for host in receipt.hosts} == {"lab1", "lab2"}
    assert receipt.left == 0
    assert receipt.logs_complete


@golden
def test_journals_are_read_and_fold_to_the_same(path: Path) -> None:
    events = []
    for journal in sorted(path.glob("journal-*.jsonl")):
        records = [json.loads(line) for line in journal.read_bytes().splitlines()]
        host = journal.stem.partition("-")[2]
        events += [ev.from_journal(host, record, 0.0) for record in records]
    known = [event for event in events if event is not None]
    assert not [event for event in known if isinstance(event, ev.RecordPassedOver)]
    state = fold(sorted(known, key=lambda event: event.time))
    assert (state.attempt, ends(state)) == ENDS[path.name][2:]


@golden
def test_the_description_is_read_whole(path: Path) -> None:
    record = read(path / "run.json")
    request, layout = codec.read_run(record, path / "run.json")
    described = json.loads(json.dumps(codec.describe_run(request, layout, record["started"])))
    assert codec.read_run(described) == (request, layout)
    assert [host.name for host in request.hosts] == ["lab1", "lab2"]
    assert request.inventory.host("lab1").labels == {"rack": "r1"}
    assert request.inventory.host("lab2").env == {"SITE": "lab"}
    assert layout.run_id.startswith(path.name)
    if path.name == "restarted":
        assert (request.job.envs, request.job.setup) == ({"A": "b"}, "echo set up")
        assert (request.max_restarts, record["job"]["secrets"]) == (1, ["TOKEN"])
    else:
        boss, worker = request.job.roles
        assert boss.on_exit == {"fail": ((11, 20),)}
        assert worker.at(1).envs == {"X": "y"}
        assert [task.key for node in layout.nodes for task in node.tasks] == [
            *("boss-0", "worker-0", "worker-1"),
        ]


@golden
def test_commands_take_it_as_one_of_their_own(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    shutil.copytree(path, tmp_path / "runs" / path.name)
    status = ENDS[path.name][0]
    listed = json.loads(CliRunner().invoke(cli, ["ls", "--json"]).stdout)
    assert [(run["run"], run["status"], run["hosts"]) for run in listed] == [
        (path.name, status, ["lab1", "lab2"])
    ]
    for words in (["ls"], ["show", path.name, "--events"], ["show", path.name, "--json"]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.output
        assert status in done.output


def test_a_wish_to_stop_is_read() -> None:
    for path in GOLDEN.glob("*/stopped/stop.json"):
        assert read(path)["grace"] == 1.0
