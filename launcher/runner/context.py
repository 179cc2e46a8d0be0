"""The values that all parts of one run share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..records import codec
from ..records import events as ev
from ..records.run_folder import RunFolder, adoption_of
from ..records.state import RunState
from ..spec.frozen import frozen
from ..spec.model import Job, Layout, Request
from .event_log import EventLog
from .stop import Stopped, StopSwitch


@frozen
class RunContext:
    """What was requested, where it is recorded, and whether the user has asked to stop."""

    request: Request
    folder: RunFolder
    event_log: EventLog
    switch: StopSwitch
    started: float

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def job(self) -> Job:
        """The request's job."""
        return self.request.job

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self.event_log.state

    @property
    def begun_attempts(self) -> tuple[int, int]:
        """The attempt that another launcher has begun, and the latest that it may have set spares up
        for. Of a run that was taken up from its hosts, only they know."""
        adoption = adoption_of(self.folder.path)
        current = max(self.state.attempt, adoption.attempt if adoption else 0)
        return current, current + (len(self.request.hosts) if self.request.max_restarts else 0)

    @property
    def events(self) -> Sequence[ev.Event]:
        """All events so far."""
        return self.event_log.events

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL: of a stop request in the folder, else the job's."""
        stop = self.folder.read_as(dict[str, float], "stop.json") or {}
        return stop.get("grace", self.job.grace)

    def add(self, event: ev.Event) -> None:
        """Record an event, and pass it to the listener."""
        self.event_log.add(event)

    def enter(self, stage: str) -> None:
        """Enter a stage. Raises Stopped when the user has asked to stop."""
        if self.switch.asked.is_set():
            raise Stopped
        self.add(ev.StageStarted(time.time(), stage))

    def describe(self, layout: Layout) -> dict[str, Any]:
        """Return the contents of ``run.json`` with this layout."""
        return codec.describe_run(self.request, layout, self.started)
