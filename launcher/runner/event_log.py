"""The events of a run: each is recorded, folded into the state and passed on, in that order.

Steps of a run wait here for the state that they need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..records import events as ev
from ..records import last_words, postmortem
from ..records.run_folder import RunFolder
from ..records.state import ProcessState, fold, step
from ..spec.errors import RecordError
from .listeners import OnEvent


class EventLog:
    """The one place through which all events pass."""

    def __init__(self, folder: RunFolder, on_event: OnEvent) -> None:
        self.folder = folder
        self.events = folder.events()  # another launcher may have started the run
        self.state = fold(self.events)
        self.record_error: RecordError | None = None  # why the run's record is incomplete
        self._on_event = on_event
        self._changed = asyncio.Event()

    def heard(self, host: str) -> frozenset[int]:
        """Return the numbers of the records of a host's journal that are recorded here."""
        mine = (e.seq for e in self.events if getattr(e, "host", None) == host)
        return frozenset(seq for seq in mine if seq >= 0)

    def add(self, event: ev.Event) -> None:
        """Take an event. A full disk here does not stop a run: it continues unrecorded."""
        if not isinstance(event, ev.Progressed):
            self.events.append(event)
            try:
                self.folder.record(event)
            except RecordError as error:
                self.record_error = error
        self.state = step(self.state, event)
        self._on_event(event)
        self._changed.set()

    def has_failed(self) -> bool:
        """Return whether a failure counts. When one does not count yet, wake the waiters in time."""
        failure = self.state.failure
        left = self.state.counts_from(failure) - time.time() if failure else 0.0
        if left > 0:
            asyncio.get_running_loop().call_later(left, self.wake)
        return failure is not None and left <= 0

    def last_words(self) -> bytes:
        """Return the end of what the process that failed first said: of stderr, as a rule."""
        failure = self.state.failure
        return b"" if failure is None else self._spoken(failure.key).strip()

    def last_words_of_others(self) -> list[tuple[ProcessState, bytes]]:
        """Return the ends of the logs, stderr last, of all other processes that failed."""
        others = postmortem.others(self.state)
        return [(process, self._both_ends(process.key)) for process in others]

    def both_ends(self) -> list[tuple[ProcessState, bytes]]:
        """Return the ends of the logs, stderr last, of all processes."""
        processes = self.state.processes.values()
        return [(process, self._both_ends(process.key)) for process in processes]

    def last_words_of_all(self) -> list[tuple[ProcessState, bytes]]:
        """Return the end of what each process said: of stderr, as a rule."""
        return [(process, self._spoken(process.key)) for process in self.state.processes.values()]

    def _both_ends(self, key: str) -> bytes:
        return self._end_of(key, "out") + b"\n" + self._end_of(key, "err")

    def _spoken(self, key: str) -> bytes:
        ends = (self._end_of(key, stream) for stream in ("err", "out"))
        stderr, stdout = (end.decode("utf-8", "surrogateescape") for end in ends)
        return last_words.spoken(stderr, stdout).encode("utf-8", "surrogateescape")

    def _end_of(self, key: str, stream: str) -> bytes:
        name = f"attempt-{self.state.attempt}/{key}.{stream}"
        return self.folder.log(name).tail() if self.folder.has_log(name) else b""

    def note(self, name: str, value: object) -> None:
        """Write a file of the run's folder. A full disk here does not stop a run."""
        try:
            self.folder.write(name, value)
        except RecordError as error:
            self.record_error = error

    def wake(self) -> None:
        """Make all waiters check their condition again."""
        self._changed.set()

    async def until(self, reached: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for a condition that events make true; return False when ``seconds`` pass first."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not reached():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return reached()
        return True
