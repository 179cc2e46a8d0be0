"""A trial whose run never began, because its launcher was killed, begins when its sweep is resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest

from launcher.api import sweeps
from launcher.jobs.matrix import Choice, Trial
from launcher.records.receipt import Receipt
from launcher.records.sweep_folder import RUNNING, SweepFolder, TrialRecord
from launcher.runner.policy.sweep import Slot
from launcher.spec.errors import DocumentError
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


def test_too_many_trials_are_refused_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("run: train.py\nmatrix:\n" + "".join(f"  {p}: range(10)\n" for p in "abcdefg"))
    (tmp_path / "train.py").touch()
    with pytest.raises(DocumentError) as caught:
        sweeps.planned(sweeps.load_sweep(file), {"file": {}}, Inventory((Host("a"),)), {})
    assert str(caught.value) == f"{file}:3: 10,000,000 trials; a sweep has at most 10,000"
