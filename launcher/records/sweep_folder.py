"""A sweep's folder, and what came of its trials.

::

    ~/.launcher/sweeps/<name>/sweep.json    what was asked for
    ~/.launcher/sweeps/<name>/trials.jsonl  a line for each start and end of a trial; the last one counts
    ~/.launcher/sweeps/<name>/lock          held by the process that starts the trials
    ~/.launcher/sweeps/<name>/stop          asks that process to stop

Each trial is an ordinary run, with its own folder and receipt.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..spec.errors import InputError, RecordError, UnreadableRecord, suggestion
from ..spec.frozen import frozen
from ..spec.home import home, make_home
from ..spec.typed_json import Mismatch, from_json, to_json
from ..spec.version import __version__
from .receipt import Receipt
from .record_files import read_json, write_json
from .run_reader import RunReader
from .trial_values import last_value

#: The format of both files; one with a greater number is of a later version.
FORMAT = 1
#: Statuses of a trial. Those of a run that ended are the run's.
WAITING, RUNNING, SUCCEEDED, STOPPED = "waiting", "running", "succeeded", "stopped"
#: It fell behind others, and was stopped for that.
PRUNED = "pruned"

_CODE = "code-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}\Z")


@frozen
class SweepRecord:
    """What was asked for. ``argv`` are the words behind ``launcher sweep``, typed in ``cwd``; ``trials``
    the number of trials, ``metric`` the pattern or the scalar of their value."""

    argv: tuple[str, ...]
    cwd: str
    trials: int
    parameters: tuple[str, ...]
    created: float
    metric: str | None = None
    goal: str = "max"
    version: str = __version__
    format: int = FORMAT


@frozen
class TrialRecord:
    """A trial: its values, its run, and what came of it. ``reason`` is the receipt's; ``value`` the last
    of its metric, also while it runs."""

    id: str
    params: Mapping[str, str]
    status: str = WAITING
    run: str = ""
    reason: str = ""
    value: float | None = None
    hosts: tuple[str, ...] = ()
    started: float | None = None
    seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended, neither well nor because somebody stopped it."""
        return self.status not in (WAITING, RUNNING, SUCCEEDED, STOPPED, PRUNED)

    def ended(self, receipt: Receipt, run: Path, metric: str | None) -> TrialRecord:
        """Return what came of the trial, once its run has ended, which this folder has."""
        return replace(
            self,
            status=str(receipt.status),
            reason=str(receipt.reason),
            value=last_value(run, metric) if metric else None,
            hosts=tuple(host.host for host in receipt.hosts),
            seconds=receipt.seconds,
        )


@frozen
class SweepSummary:
    """A sweep as ``launcher sweep ls`` lists it."""

    name: str
    record: SweepRecord
    trials: tuple[TrialRecord, ...]
    is_held: bool

    def counted(self, *statuses: str) -> int:
        """Return how many trials have one of these statuses."""
        return sum(trial.status in statuses for trial in self.trials)

    @property
    def failed(self) -> int:
        """How many trials failed or were lost."""
        return sum(trial.failed for trial in self.trials)

    @property
    def ranked(self) -> tuple[TrialRecord, ...]:
        """The trials, the best first; those without a value last, in the order of their start."""
        sign = -1 if self.record.goal == "max" else 1
        with_value = [trial for trial in self.trials if trial.value is not None]
        without = [trial for trial in self.trials if trial.value is None]
        return (*sorted(with_value, key=lambda trial: sign * (trial.value or 0.0)), *without)


class SweepFolder:
    """The folder of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @classmethod
    def create(cls, start: str, record: SweepRecord) -> SweepFolder:
        """Make the folder of a new sweep, whose name begins with ``start``. Raises RecordError."""
        try:
            make_home()
            while True:
                path = _place() / f"{start}-sweep-{secrets.token_hex(2)}"
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700, parents=True)
                    break
        except OSError as error:
            raise RecordError(str(error.filename), error) from None
        folder = cls(path)
        folder.write(record)
        return folder

    @classmethod
    def find(cls, name: str) -> SweepFolder:
        """Return a sweep by its name, its beginning, or ``-`` for the latest. Raises InputError."""
        known = names()
        if name == "-" and known:
            return cls(_place() / known[-1])
        matching = [name] if name in known else [one for one in known if one.startswith(name)]
        if len(matching) == 1:
            return cls(_place() / matching[0])
        if len(matching) > 1:
            raise InputError(f'"{name}" may be {", ".join(matching[:4])}', "write more of the name")
        hint = suggestion(name, known) or "launcher sweep ls shows all sweeps"
        raise InputError(f'no sweep "{name}"', hint)

    def record(self) -> SweepRecord:
        """Return what was asked for. Raises UnreadableRecord."""
        file = self.path / "sweep.json"
        try:
            return from_json(SweepRecord, read_json(file))
        except (OSError, ValueError) as error:
            raise UnreadableRecord(str(file), str(error)) from None

    def write(self, record: SweepRecord) -> None:
        """Record what is asked for. Raises RecordError."""
        try:
            write_json(self.path / "sweep.json", to_json(record))
        except OSError as error:
            raise RecordError(str(error.filename), error) from None

    def trials(self) -> dict[str, TrialRecord]:
        """Return what came of the trials that were started, by id. A damaged line costs that line."""
        found: dict[str, TrialRecord] = {}
        try:
            lines = (self.path / "trials.jsonl").read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            with suppress(ValueError, Mismatch, RecursionError):
                trial = from_json(TrialRecord, json.loads(line))
                found[trial.id] = trial
        return found

    def note(self, trial: TrialRecord) -> None:
        """Record what came of a trial. Raises RecordError."""
        line = json.dumps(to_json(trial)).encode() + b"\n"
        try:
            with open(self.path / "trials.jsonl", "ab") as file:
                file.write(line)
        except OSError as error:
            raise RecordError(str(error.filename), error) from None

    def summary(self) -> SweepSummary:
        """Return the sweep as it stands. Raises UnreadableRecord."""
        record, is_held = self.record(), self.is_held
        trials = list(self.trials().values())
        if not is_held:
            trials = [_left(trial, record.metric) for trial in trials]
        return SweepSummary(self.name, record, tuple(trials), is_held)

    def new_code(self) -> Path:
        """Make a folder for a copy of the code. Raises RecordError."""
        try:
            return Path(tempfile.mkdtemp(prefix=_CODE, dir=self.path))
        except OSError as error:
            raise RecordError(str(error.filename), error) from None

    def forget_code(self) -> None:
        """Remove all copies of the code."""
        for place in self.path.glob(f"{_CODE}*"):
            shutil.rmtree(place, ignore_errors=True)

    # -- the process that starts its trials

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that starts trials. Raises InputError if there is one."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.name} is running already", f"look: launcher sweep show {self.name}"
                ) from None
            (self.path / "stop").unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    @property
    def is_held(self) -> bool:
        """Whether a process starts trials."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def request_stop(self) -> None:
        """Ask that process to stop. Raises OSError."""
        (self.path / "stop").touch()

    @property
    def is_stopping(self) -> bool:
        """Whether somebody asked it to stop."""
        return (self.path / "stop").exists()


def _left(trial: TrialRecord, metric: str | None) -> TrialRecord:
    """Return how a trial stands whose run may have ended, or been removed, with nobody watching."""
    if trial.status != RUNNING:
        return trial
    run = home() / "runs" / trial.run
    if not run.exists():
        return TrialRecord(trial.id, trial.params)
    with suppress(UnreadableRecord):
        if receipt := RunReader(run).receipt():
            return trial.ended(receipt, run, metric)
    return trial


def names() -> list[str]:
    """Return the names of all sweeps, the oldest first."""
    found = []
    with suppress(OSError):
        for path in _place().iterdir():
            if _NAME.match(path.name) and (path / "sweep.json").exists():
                found.append(path.name)
    return sorted(found, key=lambda name: (_created(name), name))


def _created(name: str) -> float:
    try:
        return SweepFolder(_place() / name).record().created
    except UnreadableRecord:
        return 0.0


def _place() -> Path:
    return home() / "sweeps"


def new_record(
    argv: tuple[str, ...], trials: int, parameters: tuple[str, ...], metric: str | None, goal: str
) -> SweepRecord:
    """Return the record of a sweep that begins now, here."""
    return SweepRecord(argv, os.getcwd(), trials, parameters, time.time(), metric, goal)
