"""A trial whose run never began, because its launcher was killed, begins when its sweep is resumed."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest

from launcher.api import sweeps
from launcher.jobs.matrix import Choice, Trial
from launcher.records.receipt import Receipt
from launcher.records.sweep_folder import (
    RUNNING,
    STOPPED,
    SUCCEEDED,
    WAITING,
    SweepFolder,
    TrialRecord,
)
from launcher.runner.policy.sweep import Slot
from launcher.spec.errors import DocumentError, RecordError, UnknownRun
from launcher.spec.model import Host, Inventory, Job

TRIAL = Trial({"lr": "0.1"})


class Run:
    """A run that ends as it is told to."""

    receipt = None

    def __init__(self, name: str, status: str, reason: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._receipt = Receipt(name, status, reason, 0, 1.0, 1.0, {}, 1, "torch")

    async def wait(self) -> Receipt:
        return self._receipt

    async def stop(self) -> Receipt:
        if self._receipt.reason == "internal-error":
            raise RecordError("events.jsonl", OSError("disk full"))
        return self._receipt


class Client:
    """Knows one run, which was left behind, and starts others."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.started = folder, 0

    def attach_here(self, name: str) -> Run:
        return Run(name, "failed", "launcher-died", self._folder)

    async def run(self, job: object, **options: Any) -> Run:
        self.started += 1
        return Run("new", "succeeded", "all-ranks-exited-0", self._folder)


class Plan:
    """One trial, whose job is no task of an array."""

    sweep = sweeps.Sweep({}, {"lr": Choice(("0.1",))}, sweeps.Settings())
    trials, slots, count, is_chosen = (TRIAL,), (Slot(("a",)),), 1, False
    options: Mapping[str, Any] = MappingProxyType({})

    def job(self, trial: Trial, slot: Slot) -> Job:
        assert (trial, slot) == (TRIAL, Slot(("a",)))
        return Job(("train.py",))


def test_it_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    record = sweeps.new_record((), 1, ("lr",), None, "max")
    folder = SweepFolder.create("x", record)
    folder.note(TrialRecord(TRIAL.id, TRIAL.params, RUNNING, "left"))
    client = Client(tmp_path)

    async def resume() -> None:
        trials = sweeps.Trials(cast("Any", client), folder, cast("Any", Plan()), sweeps.Listener())
        await trials.all()

    asyncio.run(resume())
    (found,) = folder.trials().values()
    assert (found.run, found.status) == ("new", "succeeded")
    assert client.started == 1


class Claiming:
    """Starts runs that end once two of them run. One that begins while another one claims GPUs fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_claiming = False
        self._running, self._both = 0, asyncio.Event()

    async def run(self, job: object, **options: Any) -> Claiming.Run:
        assert not self._is_claiming
        self._is_claiming = True
        return self.Run(self, self._folder)

    class Run:
        def __init__(self, client: Claiming, folder: Path) -> None:
            self._client, self.folder, self.name = client, folder, f"run-{id(self)}"

        async def wait_until_started(self) -> None:
            client = self._client
            await asyncio.sleep(0)
            client._is_claiming = False
            client._running += 1
            if client._running == 2:
                client._both.set()

        async def wait(self) -> Receipt:
            await self._client._both.wait()
            return Receipt(
                self.name, "succeeded", "all-ranks-exited-0", 0, 1.0, 1.0, {}, 1, "torch"
            )


class TwoPlan(Plan):
    """Two trials, for which launcher finds GPUs."""

    trials, slots, count = (TRIAL, Trial({"lr": "0.2"})), (Slot(), Slot()), 2

    def job(self, trial: Trial, slot: Slot) -> Job:
        return Job(("train.py",))


def test_trials_claim_gpus_one_after_the_other_and_run_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    monkeypatch.setattr(sweeps.Trials, "_keep_code", lambda *_: "")
    folder = SweepFolder.create("x", sweeps.new_record((), 2, ("lr",), None, "max"))

    async def run() -> None:
        client, plan = cast("Any", Claiming(tmp_path)), cast("Any", TwoPlan())
        async with asyncio.timeout(60):
            await sweeps.Trials(client, folder, plan, sweeps.Listener()).all()

    asyncio.run(run())
    assert [trial.status for trial in folder.trials().values()] == [SUCCEEDED, SUCCEEDED]


class Left:
    """Knows the runs that a sweep has left, by how they end."""

    def __init__(self, folder: Path, ends: Mapping[str, tuple[str, str]]) -> None:
        self._folder, self._ends = folder, ends

    def attach_here(self, name: str) -> Run:
        if name not in self._ends:
            raise UnknownRun("there is no such run", "")
        return Run(name, *self._ends[name], self._folder / name)


def left(monkeypatch: pytest.MonkeyPatch, home: Path, *runs: str) -> SweepFolder:
    """Return a sweep whose process was killed while these runs ran, each of which had printed a value."""
    monkeypatch.setenv("LAUNCHER_HOME", str(home))
    folder = SweepFolder.create("x", sweeps.new_record((), len(runs), ("lr",), "acc: (.*)", "max"))
    for run in runs:
        folder.note(TrialRecord(run, {"lr": run}, RUNNING, run))
        log = home / "runs" / run / "logs" / "attempt-0" / "rank-0.out"
        log.parent.mkdir(parents=True)
        log.write_text("acc: 0.5\n")
    return folder


def test_what_a_killed_sweep_left_counts_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be stopped, or was removed, keeps no other one from being stopped."""
    folder = left(monkeypatch, tmp_path, "broken", "gone", "done", "stopped")
    ends = {
        "broken": ("failed", "internal-error"),
        "done": ("succeeded", "all-ranks-exited-0"),
        "stopped": ("stopped", "by-user"),
    }
    client = cast("Any", Left(tmp_path / "runs", ends))
    with pytest.raises(RecordError):
        asyncio.run(sweeps.stop_runs(client, folder))
    found = {name: (one.status, one.value) for name, one in folder.trials().items()}
    assert found == {
        "broken": (RUNNING, None),
        "gone": (WAITING, None),
        "done": (SUCCEEDED, 0.5),
        "stopped": (STOPPED, 0.5),
    }
    ends["broken"] = ("stopped", "by-user")
    assert [one.id for one in asyncio.run(sweeps.stop_runs(client, folder))] == ["broken"]


def test_a_killed_sweep_shows_how_its_runs_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = left(monkeypatch, tmp_path, "done", "running", "gone")
    receipt = Receipt("done", "succeeded", "all-ranks-exited-0", 0, 1.0, 1.0, {}, 1, "torch")
    (tmp_path / "runs" / "done" / "receipt.json").write_text(json.dumps(receipt.to_json()))
    shutil.rmtree(tmp_path / "runs" / "gone")
    found = {one.id: (one.status, one.value) for one in folder.summary().trials}
    assert found == {"done": (SUCCEEDED, 0.5), "running": (RUNNING, None), "gone": (WAITING, None)}


def test_too_many_trials_are_refused_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("run: train.py\nmatrix:\n" + "".join(f"  {p}: range(10)\n" for p in "abcdefg"))
    (tmp_path / "train.py").touch()
    with pytest.raises(DocumentError) as caught:
        sweeps.planned(sweeps.load_sweep(file), {"file": {}}, Inventory((Host("a"),)), {})
    assert str(caught.value) == f"{file}:3: 10,000,000 trials; a sweep has at most 10,000"
