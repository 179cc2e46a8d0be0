"""Reads a run from its folder, as the process that follows the run writes it.

A console, ``launcher logs`` and ``launcher attach`` stand on this. No host is asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..spec.errors import InputError, UnreadableRecord
from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.model import Layout, Request
from ..spec.typed_json import to_json
from . import adoption, codec, data, receipt
from . import events as ev
from .adoption import Adoption
from .code import Code
from .data import UsedSet
from .metrics import HostUse
from .receipt import Receipt
from .record_files import read_as, read_json, read_record, write_json, write_record
from .run_folder import NOTED_EVERY, USE, adoption_of, log_names, times
from .run_lock import holder
from .state import RunState, log_hosts, step, without_launcher

#: Most bytes of one log in one piece.
PIECE = 1 << 20
#: Bytes that are read at once in search of the last lines.
BLOCK = 1 << 16
#: The file that notes how far the logs of a run were shown.
SHOWN = "shown.json"


@frozen
class LogPiece:
    """Bytes of one log that follow those of the piece before.

    ``host`` is the host that wrote them, ``name`` the log: ``attempt-0/rank-3.out``. A piece may end
    within a line. ``arrived`` is when it had come here, to the second; 0 where that was not noted.
    """

    host: str
    name: str
    data: bytes
    arrived: float = 0.0


def code_of(path: Path) -> Code:
    """Return what is recorded of the code of the run in a folder; nothing before it is known."""
    return read_as(Code, path / "code.json") or Code()


def sets_of(path: Path) -> tuple[UsedSet, ...]:
    """Return the data sets of the run in a folder."""
    return read_as(tuple[UsedSet, ...], path / data.FILE) or ()


def is_left(path: Path) -> bool:
    """Return whether nobody follows the run in a folder, which this machine has started and which has
    no receipt. Raises UnreadableRecord."""
    is_over = (path / "receipt.json").exists()
    return not is_over and holder(path) is None and adoption_of(path) is None


class RunReader:
    """Reads what is recorded of one run: events, state, logs and receipt.

    ``new_events`` and ``new_logs`` return what has come since their last call, so a reader
    belongs to one consumer; make as many as you like. All methods read files of this machine and
    return at once.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._described: tuple[Request, Layout, float, tuple[str, ...]] | None = None
        self._seen = self._folded = 0  # bytes of events.jsonl
        self._state = RunState()
        self._positions: dict[str, int] = {}
        self._log_hosts: dict[str, str] = {}

    # -- what the run is

    @property
    def request(self) -> Request:
        """What was asked for; secrets have no values. Raises InputError."""
        return self._described_run()[0]

    @property
    def layout(self) -> Layout:
        """Which host runs what. It has no nodes, or more than are wanted, before that is decided.
        Raises InputError."""
        known = self._described_run()[1]
        if not known.nodes or known.wanted:
            self.reread()
        return self._described_run()[1]

    @property
    def started(self) -> float:
        """When the run was started, in seconds since the epoch. Raises InputError."""
        return self._described_run()[2]

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The names of the job's secrets. Raises InputError."""
        return self._described_run()[3]

    @property
    def adoption(self) -> Adoption | None:
        """How the run was taken up from its hosts; None where this machine has started it."""
        return adoption_of(self.path)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why a person has to agree before processes are started by the run's record. Raises
        InputError."""
        return adoption.doubts(self.adoption, self.secret_names, self.request.job)

    def trust(self) -> None:
        """Note that a person has agreed. Raises RecordError."""
        taken = self.adoption
        if taken is not None:
            write_record(self.path / adoption.FILE, to_json(replace(taken, trusted=True)))

    def _described_run(self) -> tuple[Request, Layout, float, tuple[str, ...]]:
        if self._described is None:
            path = self.path / "run.json"
            try:
                value = read_json(path)
            except FileNotFoundError:
                raise InputError(
                    f"{self.name}: its launcher died before it had recorded it, and nothing was started",
                    f"start it again; launcher rm {self.name} deletes what is left of it",
                ) from None
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{self.name}: {path} is damaged: {getattr(error, 'strerror', None) or error}",
                    f"repair the file, or delete the run: launcher rm {self.name}",
                ) from None
            request, layout = codec.read_run(value, self.path / "run.json")
            secrets = tuple(value["job"].get("secrets", ()))
            self._described = request, layout, float(value["started"]), secrets
        return self._described

    # -- how it stands

    def receipt(self) -> Receipt | None:
        """Return the receipt, or None as long as the run has not ended."""
        value = read_record(self.path / "receipt.json")
        if value is None:
            return None
        found = receipt.read(value, self.path / "receipt.json")
        return replace(found, use=read_as(dict[str, HostUse], self.path / USE) or {})

    def follower(self) -> int | None:
        """Return the pid of the process that follows the run, or None."""
        return holder(self.path)

    def state(self) -> RunState:
        """Return the state that follows from all events so far, and from whether anybody follows it."""
        self._fold()
        if not self._state.needs_its_launcher or not is_left(self.path):
            return self._state
        self._fold()  # what its follower has recorded until it let go
        return without_launcher(self._state)

    def _fold(self) -> None:
        events, self._folded = self._events_from(self._folded)
        for event in events:
            self._state = step(self._state, event)

    def events(self) -> list[ev.Event]:
        """Return all events so far."""
        return self._events_from(0)[0]

    def new_events(self) -> list[ev.Event]:
        """Return the events since the last call."""
        events, self._seen = self._events_from(self._seen)
        if any(isinstance(event, ev.NodeReplaced | ev.NodesReduced) for event in events):
            self.reread()
        return events

    def reread(self) -> None:
        """Read ``run.json`` again when next asked: the follower may have replaced a host."""
        self._described = None

    def skip_events(self) -> None:
        """Leave out the events so far: ``new_events`` returns what comes from now on."""
        self._seen = self._events_from(self._seen)[1]

    def _events_from(self, offset: int) -> tuple[list[ev.Event], int]:
        """Return the events after a byte offset, and the offset after the last whole line.

        Raises UnreadableRecord.
        """
        path = self.path / "events.jsonl"

        def before() -> int:
            with open_plain(path) as file:
                return file.read(offset).count(b"\n")

        try:
            with open_plain(path) as file:
                file.seek(offset)
                data = file.read()
        except OSError as error:
            raise UnreadableRecord(str(path), str(error.strerror)) from None
        whole = data.rfind(b"\n") + 1
        return ev.decode_lines(data[:whole], path, before), offset + whole

    # -- logs

    def new_logs(self) -> Iterator[LogPiece]:
        """Yield the bytes of all logs since the last call."""
        more = True
        while more:
            more = False
            for name in log_names(self.path):
                if piece := self._piece(name, PIECE):
                    yield piece
                    more = more or len(piece.data) == PIECE

    def logs(
        self,
        since: float | None = None,
        tail: int | None = None,
        merged: bool = False,
        timed: bool = False,
    ) -> Iterator[LogPiece]:
        """Yield all logs so far, from their start; ``new_logs`` continues after them.

        ``since`` leaves out what arrived more than that many seconds ago, ``tail`` all but that many
        last lines of each log. Logs come one after the other; with ``merged``, in the order in which
        they arrived here, which is noted once a second. With ``timed``, pieces say when that was.
        """
        names, arrivals = log_names(self.path), times(self.path)
        self._positions = dict.fromkeys(names, 0)
        if since is not None:
            moment = time.time() - since
            self._positions = {
                name: self._arrived_by(name, arrivals.get(name, []), moment) for name in names
            }
        if tail is not None:
            for name in names:
                last = _offset_of_last_lines(self.path / "logs" / name, tail)
                self._positions[name] = max(self._positions[name], last)
        if merged or timed:
            pieces = ((when, name, end) for name in names for when, end in arrivals.get(name, []))
            in_order = (
                sorted(pieces) if merged else sorted(pieces, key=lambda one: (one[1], one[0]))
            )
            for when, name, end in in_order:
                while piece := self._piece(name, min(PIECE, end - self._positions[name])):
                    yield replace(piece, arrived=when)
        for piece in self.new_logs():
            noted = arrivals.get(piece.name)
            yield replace(piece, arrived=noted[-1][0]) if noted and timed else piece

    def resume_logs(self) -> None:
        """Skip what was shown before: the logs continue where ``remember`` noted it.

        A run that never was in the background has shown all its output.
        """
        shown = read_as(dict[str, int], self.path / SHOWN)
        if shown is not None:
            self._positions = shown
        elif self.follower() is None:
            sizes = ((n, (self.path / "logs" / n).stat().st_size) for n in log_names(self.path))
            self._positions = dict(sizes)

    def skip_to_tail(self, lines: int) -> None:
        """Skip all but the last lines of each log here."""
        for name in log_names(self.path):
            last = _offset_of_last_lines(self.path / "logs" / name, lines)
            self._positions[name] = max(self._positions.get(name, 0), last)

    def note_shown(self) -> None:
        """Note the logs as shown that a process in the foreground passed on, before one in the
        background follows the run. Raises OSError."""
        if not (self.path / SHOWN).exists():
            self.resume_logs()
            self.remember()

    def remember(self) -> None:
        """Note how far the logs were read, for the next reader. Raises OSError."""
        write_json(self.path / SHOWN, self._positions)

    def passed(self, name: str, count: int) -> None:
        """Count bytes of a log as read: the caller got them on another route."""
        self._positions[name] = self._positions.get(name, 0) + count

    def _piece(self, name: str, size: int) -> LogPiece | None:
        with open_plain(self.path / "logs" / name) as file:
            file.seek(self._positions.get(name, 0))
            data = file.read(max(0, size))
        if not data:
            return None
        self.passed(name, len(data))
        return LogPiece(self._host_of(name), name, data)

    def _arrived_by(self, name: str, times: list[tuple[float, int]], moment: float) -> int:
        """Return how many bytes of a log had arrived before ``moment``. What came less than a second
        after a note has no note of its own."""
        if times and times[-1][0] + NOTED_EVERY <= moment:
            return (self.path / "logs" / name).stat().st_size
        return max((end for when, end in times if when < moment), default=0)

    def _host_of(self, name: str) -> str:
        """Return the host of a log. Another attempt may have run the same rank elsewhere."""
        stem = name.partition(".")[0]
        if stem not in self._log_hosts:
            self._log_hosts |= log_hosts(self.events())
        return self._log_hosts.get(stem) or self.layout.host_of(name.split("/")[1]) or "?"


def _offset_of_last_lines(path: Path, count: int) -> int:
    """Return the offset at which the last ``count`` lines of a file start.

    Read from the end: the file may be larger than memory.
    """
    with open_plain(path) as file:
        position = size = file.seek(0, os.SEEK_END)
        if count == 0:
            return size
        left = count
        while position > 0:
            length = min(BLOCK, position)
            position -= length
            file.seek(position)
            block = file.read(length)
            end = len(block)
            if position + end == size and block.endswith(b"\n"):
                end -= 1  # the line end of the last line
            while (end := block.rfind(b"\n", 0, end)) >= 0:
                left -= 1
                if left == 0:
                    return position + end + 1
        return 0
