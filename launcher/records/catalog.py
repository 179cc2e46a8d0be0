"""The runs of this machine: list them, find the one that a user means, and summarise each.

Reads folders only; :mod:`launcher.api.runs` asks hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec.errors import InputError, UnknownRun, UnreadableRecord, suggestion
from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.given import name_of_run
from ..spec.home import home
from ..spec.typed_json import from_json, to_json
from . import events as ev
from . import formats
from .code import one_line
from .metric import last_value, last_values
from .notes import FILE as NOTES
from .notes import Notes
from .packages import FILE as PACKAGES
from .packages import Packages
from .receipt import ended_at
from .record_files import read_as, read_record, write_record
from .run_lock import holder
from .run_reader import RunReader, code_of, is_left
from .state import ENDED, fold, without_launcher

if TYPE_CHECKING:
    from .comparison import Side

#: A folder with one of these is a run.
_RECORDS = ("events.jsonl", "run.json", "receipt.json")
#: The status of a run whose files cannot be read; its reason names the file and what is wrong.
UNREADABLE = "unreadable"


@frozen
class Summary:
    """One run in a line. ``followed`` says whether a process of this machine follows it: then the
    record is up to date. ``damaged`` names lines of its record that were ignored.

    ``command`` is what it runs, in a line, ``commit`` the code's, with a ``+`` if not all was committed;
    ``seconds`` how long a run that has ended took. ``began`` says whether any process was started,
    ``project`` whose quota it counts for, ``users`` as whom it runs: the accounts on its hosts. While it
    may choose among ``hosts``, ``wanted`` is how many of them it begins on; 0: on all. If it is elastic,
    that is the least, and ``most`` how many at most.
    """

    run: str
    status: str
    reason: str
    started: float
    hosts: tuple[str, ...]
    gpus: int
    ranks: int
    followed: bool
    folder: str
    damaged: str = ""
    command: str = ""
    commit: str = ""
    seconds: float | None = None
    began: bool = True
    tags: tuple[str, ...] = ()
    note: str = ""
    project: str = ""
    users: tuple[str, ...] = ()
    wanted: int = 0
    most: int = 0


@frozen
class Wanted:
    """Which runs to list: those that fit everything given.

    Each of ``words`` occurs in the name, the command, the commit or the note; ``since`` is in seconds
    since the epoch; ``hosts`` are those of which a run has one at least; it has all ``tags``, is in
    the ``project``, and runs as the ``user`` on one host at least.
    """

    words: tuple[str, ...] = ()
    since: float | None = None
    failed: bool = False
    running: bool = False
    hosts: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    project: str | None = None
    user: str | None = None

    def fits(self, run: Summary) -> bool:
        """Return whether a run is wanted."""
        text = f"{run.run} {run.command} {run.commit} {run.note}".lower()
        return (
            all(word.lower() in text for word in self.words)
            and (self.since is None or run.started >= self.since)
            and (not self.failed or run.status in _FAILED)
            and (not self.running or run.status not in (*ENDED, UNREADABLE))
            and self.tags.issubset(run.tags)
            and self.project in (None, run.project)
            and (self.user is None or self.user in run.users)
            and (not self.hosts or not self.hosts.isdisjoint(run.hosts))
        )


def folders() -> list[Path]:
    """Return the folders of all runs recorded here, oldest first."""
    found = {path.parent for name in _RECORDS for path in (home() / "runs").glob(f"*/{name}")}
    return sorted(found, key=lambda path: (_started(path), path.name))


def _started(path: Path) -> float:
    try:
        with open_plain(path / "events.jsonl") as file:
            return from_json(_First, json.loads(file.readline())).time
    except (OSError, ValueError, RecursionError):
        return _modified(path)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it was removed a moment ago
        return 0.0


def names() -> list[str]:
    """Return the names of all runs recorded here, oldest first."""
    return [path.name for path in folders()]


def find(word: str) -> Path:
    """Return the folder of the run that a user means: a name, the start of one, or ``-`` for the
    latest.

    Raises UnknownRun, or InputError when several runs match.
    """
    word = name_of_run(word)
    known = {path.name: path for path in folders()}
    if word == "-" and known:
        return known[list(known)[-1]]
    if word in known:
        return known[word]
    matches = [name for name in known if word and name.startswith(word)]
    if len(matches) == 1:
        return known[matches[0]]
    if matches:
        raise InputError(f'several runs start with "{word}"', ", ".join(matches[-6:]))
    hint = suggestion(word, list(known)) or "launcher ls shows all runs"
    raise UnknownRun(f'there is no run "{word}" here' if known else "there are no runs here", hint)


def select(
    words: Sequence[str], *, failed: bool = False, before: float | None = None
) -> list[Summary]:
    """Return the runs that a user means, the oldest first: by names as :func:`find` takes them, or
    patterns such as ``sweep-*``; without words, all of them.

    Of these, with ``failed`` those that failed or were lost, and with ``before`` those that were started
    before that time. Raises UnknownRun, or InputError when a word means no run or several.
    """
    known = folders()
    chosen: dict[Path, None] = {} if words else dict.fromkeys(known)
    for word in map(name_of_run, words):
        if not is_pattern(word):
            chosen[find(word)] = None
            continue
        matches = [path for path in known if fnmatchcase(path.name, word)]
        if not matches:
            raise InputError(f'no run matches "{word}"', "launcher ls shows all runs")
        chosen.update(dict.fromkeys(matches))
    found = [summary(path) for path in known if path in chosen]
    return [
        run
        for run in found
        if (not failed or run.status in _FAILED) and (before is None or run.started < before)
    ]


#: What counts as failed.
_FAILED = ("failed", "lost")


def is_pattern(word: str) -> bool:
    """Return whether a word stands for several runs."""
    return any(letter in word for letter in "*?[")


@frozen
class _First:
    """The field of a run's first event that this module reads."""

    time: float


@frozen
class _Node:
    """The fields of a node in ``run.json`` that this module reads."""

    host: str
    gpus: tuple[int, ...] = ()
    local_world_size: int = 0


@frozen
class _Role:
    """The fields of a role in ``run.json`` that this module reads."""

    name: str
    run: tuple[str, ...] = ()
    shell: bool = False


@frozen
class _Job:
    """The fields of the job in ``run.json`` that this module reads."""

    run: tuple[str, ...] = ()
    shell: bool = False
    roles: tuple[_Role, ...] = ()

    @property
    def command(self) -> str:
        """What it runs, in a line: its own command, or those of its roles."""
        if self.run:
            return one_line(self.run, self.shell)
        own = (role for role in self.roles if role.run)
        return "; ".join(f"{role.name}: {one_line(role.run, role.shell)}" for role in own)


@frozen
class _Described:
    """The fields of ``run.json`` that this module reads."""

    started: float | None = None
    nodes: tuple[_Node, ...] = ()
    wanted: int = 0
    most: int = 0
    hosts: tuple[str, ...] = ()
    project: str | None = None
    job: _Job = _Job()


def summary(path: Path) -> Summary:
    """Return a run's summary, folded from its events; UNREADABLE when one of its files is damaged."""
    described, status, reason = _Described(), UNREADABLE, ""
    damaged, followed, began = "", False, True
    ended: float | None = None
    users: tuple[str, ...] = ()
    try:
        followed, left = holder(path) is not None, is_left(path)
        file = path / "run.json"
        described = formats.read_record(_Described, read_record(file) or {}, file)
        events = RunReader(path).events()
        state = without_launcher(fold(events)) if left else fold(events)
        status, reason, damaged = state.status, state.reason, ev.damage(events)
        ended = next((e.time for e in reversed(events) if isinstance(e, ev.RunEnded)), None)
        ended = None if ended is None else ended_at(events, ended)
        if ended is None and status in ENDED:  # without its launcher
            ended = _started(path)
        connected = (e.user for e in events if isinstance(e, ev.HostConnected) and e.user)
        users = tuple(dict.fromkeys(connected))
        began = status not in ENDED or any(isinstance(e, ev.ProcessStarted) for e in events)
    except UnreadableRecord as error:
        reason = str(error)
    notes = notes_of(path)
    nodes = described.nodes[
        : described.wanted or None
    ]  # of more that it may choose among, all alike
    started = _started(path) if described.started is None else described.started
    return Summary(
        run=path.name,
        status=status,
        reason=reason,
        started=started,
        hosts=tuple(node.host for node in described.nodes) or described.hosts,
        wanted=described.wanted,
        most=described.most,
        gpus=sum(len(node.gpus) for node in nodes),
        ranks=sum(node.local_world_size for node in nodes),
        followed=followed and status not in ENDED,
        folder=str(path),
        damaged=damaged,
        command=described.job.command,
        commit=code_of(path).short,
        seconds=None if ended is None else max(0.0, ended - started),
        began=began,
        tags=notes.tags,
        note=notes.note,
        project=described.project or "",
        users=users,
    )


def notes_of(path: Path) -> Notes:
    """Return what a person has noted about the run of a folder."""
    return read_as(Notes, path / NOTES) or Notes()


def annotate(
    word: str, add: Sequence[str] = (), remove: Sequence[str] = (), text: str | None = None
) -> Notes:
    """Add and remove tags of a run, named as for :func:`find`, and set its note; return the notes.

    Raises InputError, RecordError.
    """
    path = find(word)
    notes = notes_of(path).changed(add, remove, text)
    note(path, notes)
    return notes


def note(path: Path, notes: Notes) -> None:
    """Write what a person notes about the run of a folder. Raises RecordError."""
    write_record(path / NOTES, to_json(notes))


def side(word: str, metrics: Sequence[str] = ()) -> Side:
    """Return what is compared of a run, named as for :func:`find`; ``metrics`` are patterns with one
    group, by default of what programs usually print. Raises InputError."""
    from .comparison import Side  # few commands compare

    path = find(word)
    run, reader = summary(path), RunReader(path)
    try:
        diff = (path / "code.diff").read_bytes()
    except OSError:  # nothing was left uncommitted
        diff = b""
    code = code_of(path)
    installed = read_as(Packages, path / PACKAGES) or Packages()
    values = {name: last_value(path, name) for name in metrics} or last_values(path)
    return Side(
        reader.request,
        reader.layout,
        code,
        diff,
        run.status,
        run.reason,
        run.seconds,
        _python(reader),
        installed.versions,
        {name: f"{value:g}" for name, value in values.items() if value is not None},
    )


def _python(reader: RunReader) -> str:
    """Return the Pythons of a run's hosts, each with its version, once."""
    paths = {node.host.name: node.python for node in reader.layout.nodes}
    versions = {
        one.host: one.python_version
        for one in reader.events()
        if isinstance(one, ev.HostConnected) and one.host in paths
    }
    found = (f"{paths[host]} ({version})" for host, version in versions.items())
    return ", ".join(dict.fromkeys(found))


def summaries() -> Iterator[Summary]:
    """Yield the summary of every run of this machine, latest first."""
    for path in reversed(folders()):
        yield summary(path)
