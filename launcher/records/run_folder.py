"""The folder of a run on this machine: JSON and text that can be read without launcher.

Files appear whole or not at all: each is written under a temporary name and renamed.

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
import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from ..spec.errors import LauncherError, RecordError, UnreadableRecord
from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.home import home as home
from ..spec.home import make_home as make_home
from ..spec.packed import Rows
from ..spec.typed_json import from_json, to_json
from . import events as ev
from . import formats, run_names
from .adoption import FILE, Adoption

T = TypeVar("T")

FOLLOWER = "follower.json"
ADDED = "added"
METRICS, USE = "metrics", "use.json"
#: Logs that a run has open at once.
OPEN_LOGS = 32
#: Seconds between two notes of how long a log is here.
NOTED_EVERY = 1.0
#: Tries to get the lock of a run at which somebody looks (see ``holder``), and seconds between two.
LOOKS, LOOK = 500, 0.01


@frozen
class Follower:
    """A process that follows a run. The folder may be on a network file system, and the process on
    another machine or, with the same pid, in another container."""

    pid: int
    host: str = ""
    boot: str = ""

    @classmethod
    def this_process(cls) -> Follower:
        """Return the process that asks."""
        return cls(os.getpid(), socket.gethostname(), _boot_id())

    def __str__(self) -> str:
        here = self.host in ("", socket.gethostname())
        return f"process {self.pid}" + ("" if here else f" on {self.host}")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def follower(path: Path) -> Follower | None:
    """Return the process that follows the run of this folder, or None. Raises UnreadableRecord."""
    pid = holder(path)
    if pid is None:
        return None
    noted = read_as(Follower, path / FOLLOWER)
    return noted if noted is not None and noted.pid == pid else Follower(pid)


def has_open(path: Path, pid: int) -> bool:
    """Return whether a process of this machine has the lock of a run open.

    A pid alone may belong to another machine that shares the folder, and here to an innocent process.
    """
    try:
        lock = (path / "launcher.lock").stat()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(file.stat(), lock):
                    return True
    except OSError:  # it is gone or of another user, or this is not Linux
        pass
    return False


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises OSError or ValueError."""
    try:
        with open_plain(path) as file:
            return json.loads(file.read().decode("utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def read_as(kind: type[T], path: Path) -> T | None:
    """Return a JSON file as a ``kind``; None when it is missing or damaged. For files that are
    optional."""
    try:
        return from_json(kind, read_json(path))
    except (OSError, ValueError):
        return None


def read_record(path: Path) -> Any:
    """Return the value in a JSON file, or None where it is missing. Raises UnreadableRecord."""
    try:
        with open_plain(path) as file:
            return formats.parse(file.read(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableRecord(str(path), str(error.strerror)) from None


def holder(path: Path) -> int | None:
    """Return the pid of the process that follows the run of this folder; 0 until it has written its
    pid, and None if no process follows the run. Raises UnreadableRecord."""
    try:
        with open_plain(path / "launcher.lock") as looking:
            try:
                fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                pid = looking.read(32).strip()
                return int(pid) if pid.isdigit() else 0
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableRecord(str(path / "launcher.lock"), str(error.strerror)) from None
    return None


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


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all. Raises OSError."""
    pieces = json.JSONEncoder(indent=2, ensure_ascii=False, default=_Rows).iterencode(value)
    _write(path, chain((piece.encode("utf-8", "backslashreplace") for piece in pieces), [b"\n"]))


class _Rows(list[object]):
    """Rows as a list, which JSON takes one after the other."""

    def __init__(self, rows: object) -> None:
        if not isinstance(rows, Rows):
            raise TypeError(f"{type(rows).__name__} cannot be part of a record")
        super().__init__()
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[object]:
        return iter(self._rows)


def write_record(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all. Raises RecordError."""
    try:
        write_json(path, value)
    except OSError as error:
        raise RecordError(path, error) from None


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    _write(path, [data])


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_at_home(name: str, text: str) -> None:
    """Write a file of :func:`home` that this user alone may read. Raises OSError."""
    write(make_home() / name, text.encode("utf-8", "backslashreplace"))


class RunFolder:
    """One run's folder, private to its user. ``lock`` is what another process handed over."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        self.path = path
        self.name = path.name
        self._lock = _open_lock(path) if lock is None else lock
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(path / "events.jsonl", flags | os.O_NONBLOCK, 0o600)  # no pipe
        self._end_line()
        self._open_files = _OpenFiles()
        self._logs: dict[str, LogFile] = {}
        self._times: int | None = None
        self._noted: dict[str, float] = {}
        self._is_held = False

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
                    lock = _open_lock(path)
                    fcntl.flock(lock, fcntl.LOCK_EX)  # before anybody can see the run
                    folder = cls(path, lock)
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
        for _ in range(LOOKS):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not self._is_looked_at():
                    return False
            time.sleep(LOOK)
        else:
            return False
        self._is_held = True
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        with suppress(OSError):  # a full disk here: it is for people
            write_json(self.path / FOLLOWER, to_json(Follower.this_process()))
        return True

    def _is_looked_at(self) -> bool:
        """Return whether nobody follows the run, and somebody looks at this moment who does."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return True

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

    def write(self, name: str, value: Any) -> None:
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
            path = self.path / "logs" / _safe(name)
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
        return name in self._logs or (self.path / "logs" / _safe(name)).exists()

    def hand_over(self) -> int:
        """Close all files but the lock, and return that: the run stays held, for a process that
        inherits it."""
        lock = os.dup(self._lock)
        self._leave_no_pid()
        self._is_held = False
        self.close()
        return lock

    def close(self) -> None:
        """Close all files, and release the run."""
        os.close(self._events)
        if self._is_held:
            self._leave_no_pid()
            fcntl.flock(
                self._lock, fcntl.LOCK_UN
            )  # a child that is being started still has it open
        os.close(self._lock)
        if self._times is not None:
            os.close(self._times)
        self._open_files.close()

    def _leave_no_pid(self) -> None:
        """Have nobody take the next holder for this process, until it has written its own pid."""
        with suppress(OSError):
            os.ftruncate(self._lock, 0)


def _open_lock(path: Path) -> int:
    return os.open(path / "launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _safe(name: str) -> str:
    """Return a log's name as a host sent it. Raises LauncherError when it would leave the folder."""
    parts = name.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise LauncherError(f"a host sent a log with an impossible name: {name!r}")
    return name


class _OpenFiles:
    """Files that are open to be written, the last used ones: a run may have thousands of logs, and a
    process 1,024 descriptors in all."""

    def __init__(self) -> None:
        self._fds: OrderedDict[Path, int] = OrderedDict()

    def fd(self, path: Path) -> int:
        """Return a descriptor that is open until the next call at least. Raises OSError."""
        if path in self._fds:
            self._fds.move_to_end(path)
        else:
            while len(self._fds) >= OPEN_LOGS:
                os.close(self._fds.popitem(last=False)[1])
            self._fds[path] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fds[path]

    def close(self) -> None:
        """Close all of them."""
        while self._fds:
            os.close(self._fds.popitem()[1])


class LogFile:
    """One log, written by offset: no byte is lost or doubled, however often a piece arrives."""

    def __init__(self, path: Path, open_files: _OpenFiles | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._files = open_files or _OpenFiles()
        self.size = os.fstat(self._files.fd(path)).st_size

    def write(self, offset: int, data: bytes) -> bytes:
        """Write a piece at its offset; return the part of it that is new.

        Raises RecordError, or LauncherError on a gap. Bytes written before stay as they are.
        """
        if offset > self.size:
            raise LauncherError(f"{self.path.name}: a piece is missing before byte {offset}")
        new = data[self.size - offset :]
        left = memoryview(new)
        while left:
            try:
                count = os.pwrite(self._files.fd(self.path), left, self.size)
            except OSError as error:
                raise RecordError(self.path, error) from None
            self.size += count
            left = left[count:]
        return new

    def tail(self, size: int = 16384) -> bytes:
        """Return the last ``size`` bytes."""
        return os.pread(self._files.fd(self.path), size, max(0, self.size - size))

    def close(self) -> None:
        """Close the file."""
        self._files.close()
