"""The hosts' journals alone lead to the state in the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.records.state import fold
from launcher.runner.policy import outcome
from launcher.spec.model import Host, Layout, Node
from support.journals import told, truth

HOSTS = ("gpu1", "gpu2", "gpu3")


@dataclass
class History:
    """A run as it happens: what each host writes down, and what a launcher hears and does.

    ``heard`` of each host's journal stands in the record already; hosts' clocks are wrong by
    ``offsets``.
    """

    draw: Any
    hosts: tuple[str, ...]
    offsets: Mapping[str, float]
    time: float = 1000.0
    attempt: int = 0
    user: StopReason | None = None
    journals: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    record: list[ev.Event] = field(default_factory=list)

    def passes(self) -> float:
        self.time += self.draw(st.sampled_from([0.0, 0.001, 0.5, 30.0]))
        return self.time

    def chance(self) -> bool:
        return bool(self.draw(st.booleans()))

    def writes(self, host: str, event: str, **fields: Any) -> None:
        journal = self.journals.setdefault(host, [])
        now = self.passes() + self.offsets[host]
        stamp = {"seq": len(journal), "time": now, "event": event}
        journal.append({**fields, **stamp, "attempt": self.attempt})
        if self.chance():
            self.hears(self.draw(st.sampled_from(self.hosts)))

    def hears(self, host: str) -> None:
        """All that a host has written until now, as a session with it hears it."""
        journal = self.journals.get(host, [])
        self.record += told(host, journal[self.heard.get(host, 0) :], self.offsets[host])
        self.heard[host] = len(journal)

    def here(self, event: ev.Event) -> None:
        self.record.append(event)

    # -- what happens

    def sets_up(self) -> None:
        for number, host in enumerate(self.hosts):
            self.writes(host, "SupervisorStarted", pid=1)
            self.process(host, f"setup-{number}", None, self.draw(st.sampled_from([0, 0, 0, 2])))
        if self.chance():
            self.here(ev.PortReplaced(self.passes(), self.hosts[0], 29500))

    def process(self, host: str, key: str, rank: int | None, code: int, **more: Any) -> None:
        self.writes(host, "ProcessStarted", key=key, rank=rank, pid=7)
        self.exits(host, key, rank, code, **more)

    def exits(self, host: str, key: str, rank: int | None, code: int, **more: Any) -> None:
        at = self.time + self.offsets[host]
        self.writes(host, "ProcessExited", key=key, rank=rank, code=code, at=at, **more)

    def runs(self) -> None:
        """Every host starts a rank; then things happen on them in any order."""
        for rank, host in enumerate(self.hosts):
            self.writes(host, "ProcessStarted", key=f"rank-{rank}", rank=rank, pid=7)
        self.here(ev.AllStarted(self.passes(), self.attempt))
        events = st.sampled_from(["gpus", "stall", "drop", "pull", "again", "nothing"])
        for _ in range(self.draw(st.integers(0, 4))):
            host = self.draw(st.sampled_from(self.hosts))
            match self.draw(events):
                case "gpus":
                    self.writes(host, "GpusUsed", gpus=[self.draw(st.integers(0, 3))])
                case "stall":
                    self.writes(host, "StallBegan", seconds=9.0, ranks=[])
                    if self.chance():
                        self.writes(host, "StallEnded", seconds=9.0)
                case "again":
                    rank = self.hosts.index(host)
                    self.exits(host, f"rank-{rank}", rank, 9, tolerated=True)
                    self.writes(host, "ProcessStarted", key=f"rank-{rank}", rank=rank, pid=8)
                case "drop":
                    self.here(ev.ConnectionDropped(self.passes(), host, "x"))
                    self.here(ev.ConnectionResumed(self.passes(), host, 1.0))
                case "pull":
                    self.here(ev.OutputsPulled(self.passes(), 1, 1))

    def ends_well(self) -> None:
        for host in self.hosts:
            self.exits(host, self.rank_of(host), self.hosts.index(host), 0)
            self.finishes(host)

    def ends(self, how: str) -> None:
        """By ``failure``, ``user``, ``orphaned`` or ``terminated``: on all hosts to the end, or not
        quite."""
        first = self.draw(st.sampled_from(self.hosts))
        self.begins_to_end(how, first)
        self.hears(first)
        why = {
            "failure": StopReason.PROCESS_FAILED,
            "orphaned": StopReason.ORPHAN_TIMEOUT,
            "user": StopReason.BY_USER,
        }.get(how)
        ended = {first} if how == "failure" else set()
        if why is not None:
            self.here(ev.StopRequested(self.time, why))
        for number, host in enumerate(self.hosts):
            if host not in ended and how in ("failure", "user") and self.chance():
                self.fails(host)  # on its own, before it is asked
                ended.add(host)
            if why is not None:
                self.writes(host, "StopRequested", why=why, processes=1, asked=True)
            elif host != first:
                continue
            if host not in ended:
                code = self.draw(st.sampled_from([0, 1, -15, -9]))
                self.exits(host, self.rank_of(host), number, code, stopped=True)
            if self.chance():
                self.finishes(host)
        self.user = StopReason.BY_USER if how == "user" else None

    def begins_to_end(self, how: str, host: str) -> None:
        """Write what the first host has in its journal of it."""
        if how == "failure":
            self.fails(host)
        elif how == "orphaned":
            self.writes(host, "OrphanTimeoutExpired", silent=60.0)
            self.writes(host, "StopRequested", why="orphan-timeout", processes=1)
        elif how == "terminated":
            self.writes(host, "StopRequested", why="supervisor-terminated", processes=1)

    def fails(self, host: str) -> None:
        code = self.draw(st.sampled_from([1, 7, -9, -11]))
        self.exits(host, self.rank_of(host), self.hosts.index(host), code)
        self.writes(host, "StopRequested", why="process-failed", processes=1)

    def rank_of(self, host: str) -> str:
        return f"rank-{self.hosts.index(host)}"

    def finishes(self, host: str) -> None:
        self.writes(host, "HostEnded", left=0, scanned=9, unreadable=0)

    def restarts(self) -> None:
        for host in self.hosts:
            self.hears(host)
        self.attempt += 1
        self.here(ev.RunRestarted(self.passes(), self.attempt, "exit-1"))


@st.composite
def histories(draw: Any) -> History:
    hosts = HOSTS[: draw(st.integers(1, 3))]
    offsets = {host: draw(st.sampled_from([0.0, -600.0, 3.25])) for host in hosts}
    history = History(draw, hosts, offsets)
    if history.chance():
        history.sets_up()
        if fold(history.record).failure:
            for host in hosts:
                history.hears(host)
            return history
    for _ in range(draw(st.integers(0, 2))):
        history.runs()
        history.ends("failure")
        history.restarts()
    history.runs()
    how = draw(st.sampled_from(["still", "well", "failure", "user", "orphaned", "terminated"]))
    if how == "well":
        history.ends_well()
    elif how != "still":
        history.ends(how)
    for host in draw(st.permutations(hosts)):
        history.hears(host)
    return history


@pytest.mark.thorough
@settings(max_examples=150)
@given(histories(), st.data())
def test_journals_alone_tell_what_the_record_tells(history: History, data: st.DataObject) -> None:
    """In whatever order hosts are asked, and however what they tell is cut and mixed."""
    rest = {h: told(h, j, history.offsets[h]) for h, j in history.journals.items()}
    rebuilt: list[ev.Event] = []
    while rest := {host: events for host, events in rest.items() if events}:
        host = data.draw(st.sampled_from(sorted(rest)))
        count = data.draw(st.integers(1, len(rest[host])))
        rebuilt += rest[host][:count]
        rest[host] = rest[host][count:]
    here, there = fold(history.record), fold(rebuilt)
    assert truth(there) == truth(here)
    layout = layout_of(history.hosts)
    assert outcome.decide(here, layout, asked=history.user) == outcome.decide(there, layout)


def layout_of(hosts: Iterable[str]) -> Layout:
    return Layout("r", tuple(Node(Host(name), rank, 1, rank) for rank, name in enumerate(hosts)))
