"""The folder of a run on this machine: JSON and text that can be read without launcher.

::

    ~/.launcher/runs/<run>/
        run.json        version, job (no secret values), inventory, hosts, nodes, command line
        plan.json       ranks, GPUs, address, port, argv and env of every process
        code.json       commit, branch, version of the snapshot;  code.diff: what was not committed
        data.json       its data sets: name, source, version
        events.jsonl    everything that happened, one event a line
        logs/attempt-0/rank-0.out ...   one file a rank and stream, the bytes of the host
        metrics/HOST.jsonl  how busy each host was, a line every few seconds; use.json: what it
                        comes to over the whole run
        times.jsonl     how many bytes of a log were here when: [time, log, bytes], once a second
        outputs/        what the processes wrote, of all hosts together
        outputs.json    which hosts each file came from; output-links.json: the links in outputs/
        receipt.json
        checkpoints/    those that were kept during the run, each whole; checkpoints.json and
                        checkpoints-files.jsonl: what of them is in the store
        stored.json     how far outputs are in the store of the job; stored-files.jsonl: which files are
                        there, a line each, as they come; unstored.json: it has not all yet;
                        storing.lock: held (flock) while they are stored after the run
        shown.json      how far each log of a detached run was shown
        given.json      which outputs each host was given after another one was lost
        also.json       which files beside the outputs are brought, because a user asked for them
        adopted.json    of a run that another machine started: whether its hosts agree on its record
        notes.json      tags and the note of a person
        notify.json     whom to tell about the run
        stop.json       a request to its follower to stop the run: grace, how often asked
        pull.json       a request to its follower to fetch outputs now: how often asked
        follower.json   the process that follows the run: pid, machine and boot; follower.log: its
                        messages, if it runs in the background
        launcher.lock   held (flock) by the process that follows the run; contains its pid, with a
                        line end if that process reads requests from files (older ones do not)
        .hosts/<host>/  what came from one host
    ~/.launcher/unfinished/<run>.json   hosts that could not be checked when a run ended
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

from ..spec.errors import RecordError, UnreadableRecord
from ..spec.files import open_plain
from ..spec.home import home, make_home
from ..spec.typed_json import from_json
from . import events as ev
from . import run_names
from .adoption import FILE, Adoption
from .log_file import LogFile, OpenFiles, safe_name
from .record_files import read_as, read_record, write, write_record
from .run_lock import RunLock

T = TypeVar("T")

ADDED = "added"
METRICS, USE = "metrics", "use.json"
#: Seconds between two notes of how long a log is here.
NOTED_EVERY = 1.0


def adoption_of(path: Path) -> Adoption | None:
    """Return how a run was taken up from its hosts; None where this machine started it."""
    try:
        value = read_record(path / FILE)
        return None if value is None else from_json(Adoption, value)
    except (UnreadableRecord, ValueError):
        return Adoption(differing={FILE: "it is damaged"})


def times(path: Path) -> dict[str, list[tuple[float, int]]]:
    """Return how many bytes of each log were here at which times. A damaged line is ignored."""
    found: dict[str, list[tuple[float, int]]] = {}
    with suppress(OSError), open(path / "times.jsonl", "rb") as file:
        for line in file:
            with suppress(ValueError, RecursionError):
                when, name, size = from_json(tuple[float, str, int], json.loads(line))
                found.setdefault(name, []).append((when, size))
    return found


def log_names(path: Path) -> list[str]:
    """Return the names of the logs in the folder of a run, such as ``attempt-0/rank-3.out``."""
    folder = path / "logs"
    return sorted(str(file.relative_to(folder)) for file in folder.glob("attempt-*/*"))


class RunFolder:
    """One run's folder, private to its user. ``lock`` is what another process handed over."""

    def __init__(self, path: Path, lock: RunLock | None = None) -> None:
        self.path = path
        self.name = path.name
        self._lock = RunLock(path) if lock is None else lock
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(path / "events.jsonl", flags | os.O_NONBLOCK, 0o600)  # no pipe
        self._end_line()
        self._open_files = OpenFiles()
        self._logs: dict[str, LogFile] = {}
        self._times: int | None = None
        self._noted: dict[str, float] = {}

    @classmethod
    def create(cls, prefix: str | None = None, random: Random | None = None) -> RunFolder:
        """Return a new folder, held by this process, under a unique name. Raises RecordError."""
        random = random or Random()
        parent = home() / "runs"
        try:
            make_home()
            parent.mkdir(mode=0o700, exist_ok=True)
            while True:
                path = parent / run_names.generate(random, prefix)
                try:
                    path.mkdir(mode=0o700)
                    folder = cls(path, RunLock.of_new_run(path))
                    folder.hold()
                    return folder
                except FileExistsError:
                    continue
        except OSError as error:
            raise RecordError(parent, error) from None

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of a run that was begun before. Raises UnreadableRecord."""
        try:
            return cls(path)
        except OSError as error:
            raise UnreadableRecord(str(error.filename or path), str(error.strerror)) from None

    def _end_line(self) -> None:
        """End a line that a power cut tore, so that the next event has one of its own."""
        with open_plain(self.path / "events.jsonl") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                with suppress(OSError):
                    os.write(self._events, b"\n")

    def hold(self) -> bool:
        """Make this process the one that follows the run; return False when another one does."""
        return self._lock.hold()

    def read_as(self, kind: type[T], name: str) -> T | None:
        """Return a JSON file of the folder as a ``kind``; None when it is missing or damaged."""
        return read_as(kind, self.path / name)

    def came(self, name: str, size: int) -> None:
        """Note that ``size`` bytes of a log are here now, at most once a second for each log."""
        now = time.time()
        if now - self._noted.get(name, 0.0) < NOTED_EVERY:
            return
        self._noted[name] = now
        with suppress(OSError):  # a full disk: these times are a convenience
            if self._times is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._times = os.open(self.path / "times.jsonl", flags, 0o600)
            os.write(self._times, json.dumps([round(now, 3), name, size]).encode() + b"\n")

    def log_names(self) -> list[str]:
        """Return the names of the logs here, such as ``attempt-0/rank-3.out``."""
        return log_names(self.path)

    @property
    def added(self) -> Path:
        """The folder with what the program that started the run adds to its code, if it does."""
        return self.path / ADDED

    def add_files(self, files: Mapping[str, bytes]) -> None:
        """Keep files that are added to the run's code, by their paths in it. Raises RecordError."""
        try:
            for name, data in files.items():
                place = self.added / name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write(place, data)
        except OSError as error:
            raise RecordError(self.added, error) from None

    def take_added(self, other: Path) -> None:
        """Keep the files that were added to the code of another run. Raises RecordError."""
        try:
            if (other / ADDED).is_dir():
                shutil.copytree(other / ADDED, self.added, symlinks=True)
        except OSError as error:
            raise RecordError(self.added, error) from None

    @property
    def outputs(self) -> Path:
        """The folder with the outputs of all hosts together."""
        return self.path / "outputs"

    def mirror(self, host: str) -> Path:
        """Return the folder with the outputs of one host; it is made if missing."""
        path = self.path / ".hosts" / host / "outputs"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def record(self, event: ev.Event) -> None:
        """Append one event, whole or not at all. Raises RecordError."""
        line = (json.dumps(ev.encode(event), separators=(",", ":")) + "\n").encode()
        try:
            written = os.write(self._events, line)
            if written < len(line):  # the last bytes of a full disk
                os.ftruncate(self._events, os.fstat(self._events).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RecordError(self.path / "events.jsonl", error) from None

    def events(self) -> list[ev.Event]:
        """Return all events so far, without a last line that a power cut left unfinished."""
        path = self.path / "events.jsonl"
        data = path.read_bytes()
        return ev.decode_lines(data[: data.rfind(b"\n") + 1], path)

    def write(self, name: str, value: object) -> None:
        """Write a JSON file of the folder. Raises RecordError."""
        write_record(self.path / name, value)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write any other file of the folder. Raises RecordError."""
        try:
            write(self.path / name, data)
        except OSError as error:
            raise RecordError(self.path / name, error) from None

    def log(self, name: str) -> LogFile:
        """Return the file of one log, such as ``attempt-0/rank-3.out``. Raises RecordError."""
        if name not in self._logs:
            path = self.path / "logs" / safe_name(name)
            try:
                self._logs[name] = LogFile(path, self._open_files)
            except OSError as error:
                raise RecordError(path, error) from None
        return self._logs[name]

    def has_metrics(self, host: str) -> bool:
        """Return whether a host's metrics are here."""
        return (self.path / METRICS / f"{host}.jsonl").exists()

    def metrics(self, host: str) -> LogFile:
        """Return the file of a host's metrics. Raises RecordError."""
        path = self.path / METRICS / f"{host}.jsonl"
        if str(path) not in self._logs:
            try:
                self._logs[str(path)] = LogFile(path, self._open_files)
            except OSError as error:
                raise RecordError(path, error) from None
        return self._logs[str(path)]

    def has_log(self, name: str) -> bool:
        """Return whether any byte of that log is here."""
        return name in self._logs or (self.path / "logs" / safe_name(name)).exists()

    def hand_over(self) -> int:
        """Close all files but the lock, and return that: the run stays held, for a process that
        inherits it."""
        lock = self._lock.hand_over()
        self.close()
        return lock

    def close(self) -> None:
        """Close all files, and release the run."""
        os.close(self._events)
        self._lock.close()
        if self._times is not None:
            os.close(self._times)
        self._open_files.close()
