"""Where the time of a run went: its stages, and what each host did when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from statistics import median

from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from . import events as ev
from . import receipt


class Step(StrEnum):
    """What one host did, in the order in which hosts do it."""

    CONNECT = "connect"
    CODE = "code"
    DATA = "data"
    SETUP = "setup"
    PRELOAD = "preload"  # modules are imported for ranks that do not run yet
    KEPT = "kept"  # modules that an attempt before has imported are found to be as good
    RANKS = "ranks"
    END = "end"  # from the exit of its last process until nothing of the run is left


@frozen
class Span:
    """Time that went into a ``step``; ``host`` is "" for a stage of the whole run.

    ``start`` and ``end`` are seconds since the run began, by the launching machine's clock.
    """

    host: str
    step: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@frozen
class StepTime:
    """How long hosts took for a step: ``host`` needed the ``longest``."""

    step: str
    hosts: int
    median: float
    longest: float
    host: str


def stages(events: Sequence[ev.Event]) -> tuple[Span, ...]:
    """Return the stages of a run, in time."""
    began = events[0].time if events else 0.0
    known = receipt.stages(events)
    return tuple(Span("", stage, start - began, end - began) for stage, start, end in known)


def steps(events: Sequence[ev.Event]) -> tuple[Span, ...]:
    """Return what hosts did, host by host in the order in which they came, each in time."""
    if not events:
        return ()
    found = _Steps(events[0].time)
    for event in events:
        found.hear(event)
    return found.until(events[-1].time)


#: Events at the end of a step, which say how long it took.
_STEPS: Mapping[type[ev.Event], Step] = {
    ev.HostConnected: Step.CONNECT,
    ev.CodeSynced: Step.CODE,
    ev.DataGiven: Step.DATA,
    ev.Preloaded: Step.PRELOAD,
}


class _Steps:
    """The steps of hosts, as far as events have told them; the run ``began`` at that time."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._spans: dict[str, list[Span]] = {}  # by host
        self._running: dict[tuple[str, str, int], float] = {}  # since when: by host, key, attempt
        self._ranks: dict[str, tuple[float, float]] = {}  # of the attempt that a host is at

    def hear(self, event: ev.Event) -> None:
        match event:
            case ev.HostConnected() | ev.CodeSynced() | ev.DataGiven() | ev.Preloaded():
                step = _STEPS[type(event)]
                if isinstance(event, ev.Preloaded) and event.kept:
                    step = Step.KEPT
                self._add(event.host, step, event.time - event.seconds, event.time)
            case ev.ProcessStarted():
                self._running[event.host, event.key, event.attempt] = event.time
            case ev.ProcessExited():
                self._exited(event)
            case ev.HostEnded() if event.host in self._ranks:
                _, last = self._ranks[event.host]
                self._conclude(event.host)
                self._add(event.host, Step.END, last, event.time)

    def _exited(self, event: ev.ProcessExited) -> None:
        start = self._running.pop((event.host, event.key, event.attempt), event.time)
        if ProcessKey.kind_of(event.key) is ProcessKind.SETUP:
            self._add(event.host, Step.SETUP, start, event.time)
        else:
            first, last = self._ranks.get(event.host, (start, event.time))
            self._ranks[event.host] = (min(first, start), max(last, event.time))

    def _conclude(self, host: str) -> None:
        self._add(host, Step.RANKS, *self._ranks.pop(host))

    def until(self, now: float) -> tuple[Span, ...]:
        """Return all steps; those that have not ended last until ``now``."""
        for host, key, attempt in list(self._running):
            self._exited(ev.ProcessExited(now, host, attempt, key, None, 0))
        for host in list(self._ranks):
            self._conclude(host)
        in_time = (sorted(mine, key=lambda one: one.start) for mine in self._spans.values())
        return tuple(span for mine in in_time for span in mine)

    def _add(self, host: str, step: Step, start: float, end: float) -> None:
        first = max(0.0, start - self._began)  # clocks of hosts are known within some milliseconds
        span = Span(host, step, first, max(first, end - self._began))
        self._spans.setdefault(host, []).append(span)


def step_times(spans: Iterable[Span]) -> tuple[StepTime, ...]:
    """Return how long hosts took for each step, in all their attempts."""
    taken: dict[str, dict[str, float]] = {}
    for span in spans:
        mine = taken.setdefault(span.step, {})
        mine[span.host] = mine.get(span.host, 0.0) + span.seconds
    found = []
    for step in Step:
        mine = taken.get(step, {})
        if mine:
            host = max(mine, key=lambda name: mine[name])
            found.append(StepTime(step, len(mine), median(mine.values()), mine[host], host))
    return tuple(found)
