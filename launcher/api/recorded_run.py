"""What this machine has recorded of a run: the part of a handle that never waits."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ..records import events as ev
from ..records import metric_files
from ..records.adoption import commands
from ..records.code import Code
from ..records.data import UsedSet
from ..records.metrics import HostUse, Sample, offsets
from ..records.receipt import Receipt
from ..records.run_reader import LogPiece, RunReader, code_of, sets_of
from ..records.state import RunState
from ..runner.attach import Following
from ..spec.model import Job, Layout, Request


class RecordedRun:
    """The records of a run on this machine. Reading them needs no connection and never waits."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._reader = RunReader(following.reader.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The run's name, such as ``calm-owl-12``."""
        return self._reader.name

    @property
    def folder(self) -> Path:
        """The run's folder on this machine: records, logs and outputs."""
        return self._reader.path

    @property
    def job(self) -> Job:
        """The job that it runs."""
        return self._following.request.job

    @property
    def data(self) -> tuple[UsedSet, ...]:
        """The data sets that the run used, with their versions."""
        return sets_of(self.folder)

    @property
    def code(self) -> Code:
        """The code that it runs: folder, commit, and whether all was committed."""
        return code_of(self.folder)

    @property
    def request(self) -> Request:
        """Everything that was asked for, with its options; secrets have no values."""
        return self._reader.request

    @property
    def layout(self) -> Layout:
        """Which host runs what; it has no nodes until that is decided."""
        return self._following.layout

    @property
    def started(self) -> float:
        """When it was started, in seconds since the epoch. Raises InputError before it is recorded."""
        return self._reader.started

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return self._following.grace

    @property
    def killing(self) -> bool:
        """Whether this handle was asked twice to stop, and so kills without grace."""
        return self._following.killing

    @property
    def status(self) -> str:
        """The status of the run, such as ``running`` or ``succeeded``."""
        return self._reader.state().status

    @property
    def outputs(self) -> Path:
        """The folder of what it has brought back so far, which may not be there yet."""
        return self.folder / "outputs"

    def state(self) -> RunState:
        """Return the state of the run, folded from its events so far."""
        return self._reader.state()

    def events(self) -> list[ev.Event]:
        """Return all events so far, in their order."""
        return self._reader.events()

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, or None until the run has ended."""
        return self._reader.receipt()

    @property
    def followed(self) -> bool:
        """Whether a process of this machine follows the run, and so keeps its records up to date."""
        return self._reader.follower() is not None

    @property
    def followed_by_another(self) -> bool:
        """Whether another process of this machine follows the run, whatever this one just let go of."""
        follower = self._reader.follower()
        return follower not in (None, os.getpid())

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why this machine starts nothing by the record of the run: another machine has started it, and
        its hosts disagree, name secrets or data sets, or have outputs stored. Attach with
        ``trust_record`` to do so all the same."""
        return self._reader.doubts

    @property
    def is_stored(self) -> bool:
        """Whether the job's store has all outputs that it is to have, as far as this machine knows."""
        from ..records.stored import UNSTORED

        return not (self.folder / UNSTORED).exists()

    @property
    def may_start_again(self) -> bool:
        """Whether its record lets whoever follows the run start it again."""
        return self._reader.request.max_restarts > 0

    @property
    def stores_outputs(self) -> bool:
        """Whether by its record a launcher has outputs stored, with credentials of its machine."""
        return bool(self._reader.request.job.output_to)

    @property
    def commands(self) -> tuple[str, ...]:
        """Every command of the job, each with the name of what runs it."""
        return commands(self._reader.request.job)

    def trust(self) -> None:
        """Let this machine start processes by the record in spite of its ``doubts``. Call it
        before the run is followed. Raises RecordError."""
        self._reader.trust()
        self._following.reread()

    def show_tail(self, lines: int) -> None:
        """Have ``on_log`` get only so many last lines of each log that is here already. Call it before
        the run is followed."""
        self._following.tail = lines

    def metrics(self) -> Mapping[str, tuple[Sample, ...]]:
        """Return what each host has measured so far, by this machine's clock."""
        clocks = offsets(self._reader.events())
        return {
            host: tuple(metric_files.samples(file, clocks.get(host, 0.0)))
            for host, file in metric_files.files(self.folder).items()
        }

    def use(self) -> Mapping[str, HostUse]:
        """Return how busy each host was so far: means and peaks of `metrics`."""
        return metric_files.uses(self.folder)

    def reader(self) -> RunReader:
        """Return a reader of events and logs with its own position, for a console that polls."""
        return RunReader(self.folder)

    def remember(self) -> None:
        """Note how far ``on_log`` got the logs; the next attach continues there."""
        self._following.remember()

    def _of(self, ranks: Collection[int] | None, pieces: Iterable[LogPiece]) -> Iterator[LogPiece]:
        """Yield the pieces of some ranks; None: all, and what is no rank's."""
        if ranks is None:
            yield from pieces
            return
        keys: set[str] = set()
        for piece in pieces:
            if not keys:  # not known before the run has hosts
                keys = self.layout.keys_of(ranks)
            if piece.name.rpartition("/")[2].partition(".")[0] in keys:
                yield piece
