"""Hosts of which any may lead: whatever is lost, cut, delayed or killed, a run begins once at most, and
begins where a majority of them is in touch and has free GPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.base import protocol
from launcher.agent.supervisor.gang import agreement, decisions, electing
from launcher.agent.supervisor.gang.decisions import (
    Agree,
    Begin,
    Claim,
    Leader,
    Release,
    Send,
    StandBack,
    Stop,
    Turn,
)
from launcher.agent.supervisor.gang.lines import JOINED, PARTED, SAID
from launcher.agent.supervisor.gang.member import Member
from launcher.agent.supervisor.gang.seat_lines import CAME, LEFT
from launcher.agent.supervisor.gang.succession import MORE, SITS, HangUp, Seat

NAMES = ("a", "b", "c", "d", "e")
#: The hosts whose disks are full.
FULL: set[str] = set()


class Line:
    """A connection; each end has a queue of what is on its way to it, and notices by itself when the
    other one is gone."""

    def __init__(self, caller: str, called: str) -> None:
        self.ends = {caller: deque[Any](), called: deque[Any]()}
        self.caller, self.called = caller, called
        self.open = {caller: True, called: True}
        self.works, self.is_welcome = True, False

    def other(self, name: str) -> str:
        return self.called if name == self.caller else self.caller


class Lines:
    """The lines of one host, as SeatLines has them."""

    def __init__(self, world: World, here: str, welcomes: Any, calls: Any) -> None:
        self.world, self.here = world, here
        self.welcomes, self.calls = welcomes, calls

    def mine(self) -> list[Line]:
        return [one for one in self.world.lines if one.open.get(self.here)]

    @property
    def is_to_call(self) -> bool:
        return self.calls() and not any(one.caller == self.here for one in self.mine())

    def learn(self, seats: Any, now: float) -> None:
        pass

    def say(self, host: str, word: Any, now: float) -> None:
        for line in self.mine():
            is_caller = line.called == self.here
            fits = line.other(self.here) == host if host else not is_caller
            if fits and line.works and (is_caller or line.is_welcome):
                line.ends[line.other(self.here)].append(word)

    def hang_up(self, host: str, is_caller: bool, now: float) -> list[Any]:
        found = []
        for line in self.mine():
            if line.other(self.here) == host and (line.called == self.here) is is_caller:
                found += self.drop(line)
        return found

    def drop(self, line: Line) -> list[Any]:
        line.open[self.here], line.works = False, False
        other = line.other(self.here)
        if line.called == self.here:
            return [(LEFT, other, {})]
        return [(PARTED, other, {})] if line.is_welcome else []


class Host:
    """One supervisor, with a GPU of its host of which others may take any."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.leader: Leader | None = None
        self.member = Member(world.now)
        self.held: list[int] = []  # GPUs that are locked
        self.begun: Any = None  # what it has begun on
        self.written: Any = None  # what it has written down that the run has begun on
        self.ended, self.alive, self.has_room = "", True, True
        request: Any = {
            "gang": {"hosts": world.names, "voters": world.names, "key": name},
            "ports": [1, 2],
        }
        self.electing = electing.Electing(request, name, self, world.now)
        self.lines: Any = self.electing.lines

    @property
    def part(self) -> Any:
        return self.leader or self.member

    @property
    def is_up(self) -> bool:
        return self.alive and not self.ended

    @property
    def is_done(self) -> bool:
        return self.written is not None and self.part.is_done

    # -- what Electing asks for

    def elected(self, term: decisions.Term, now: float) -> None:
        others = [name for name in self.world.names if name != self.name]
        ways = self.world.ways
        self.leader = Leader(self.name, others, self.decide, now, ways, None, False, term)
        self.do(self.leader.opened(now))
        self.tell()

    def resigned(self, now: float) -> None:
        self.leader, self.member = None, Member(now)
        self.release()

    def joined(self, host: str, now: float) -> None:
        self.do(self.leader.joined(host, now) if self.leader else self.member.joined(now))
        self.tell()

    def parted(self, host: str, now: float) -> None:
        if self.leader:
            self.do(self.leader.parted(host, now))
        else:
            self.member.parted(now)

    def hear_member(self, leader: Leader, host: str, word: Any, now: float) -> None:
        if "stand" in word:
            leader.saw(host, word["stand"])
        self.do(leader.heard(host, word, now))

    def hear_leader(self, word: Any, now: float) -> None:
        self.do(self.member.heard(word, now))

    def end(self, why: str) -> None:
        self.do([Stop(why)])

    def note_room(self, has_room: bool) -> None:
        self.has_room = has_room

    # -- as gathered.py does it

    def decide(self, stands: Mapping[str, Any]) -> Turn | None:
        free = {host for host, taken in stands.items() if not taken}
        for number, way in enumerate(self.world.ways):
            if free >= set(way):
                return Turn(number, {host: [0] for host in way})
        return None

    def do(self, instructions: Any) -> None:  # noqa: C901 - what gathered.py does
        now = self.world.now
        for one in instructions:
            if isinstance(one, Send):
                self.electing.say(one.host, one.word, now)
            elif isinstance(one, Claim):
                self.claim(one)
            elif isinstance(one, Release):
                self.release()
                if self.leader:
                    self.electing.withdraw(self.leader.number)
            elif isinstance(one, Agree):
                self.agree(one)
            elif isinstance(one, StandBack):
                self.electing.stand_back(now)
            elif isinstance(one, Begin):
                self.begin(one)
            elif isinstance(one, Stop) and not self.ended:
                self.do(self.part.over(one.why))
                self.ended = one.why
                self.held = self.held if self.begun else []
                for line in self.lines.mine():
                    self.lines.drop(line)

    def claim(self, claim: Claim) -> None:
        now = self.world.now
        if self.world.taken[self.name] or self.name in FULL:
            self.do(self.part.refused(claim.number, now))
            return
        self.held = claim.gpus
        mine: Any = {"gpus": claim.gpus, "names": ["0"], "ports": [claim.number % 1000 + 1]}
        self.do(self.part.held(claim.number, mine, now))

    def agree(self, agree: Agree) -> None:
        now, leader = self.world.now, self.leader
        assert leader
        if self.electing.agree(agree.number, agree.way, agree.given):
            self.do(leader.agreed(self.name, agree.number, now))
        else:
            self.do(leader.disagreed(self.name, agree.number, now))

    def release(self) -> None:
        assert self.begun is None, "what has begun lets go of nothing"
        self.held = []
        self.member.void()
        self.tell()

    def begin(self, begin: Begin) -> None:
        assert self.written is None, "once"
        value = (begin.number, begin.way, str(sorted(begin.given.items())))
        if self.name in FULL:
            self.do(self.part.could_not(begin.number, self.world.now))
            return
        if self.name in begin.given:
            assert self.held == begin.given[self.name]["gpus"], "on what it holds"
            self.begun = value
        self.written = value
        self.electing.begun(begin.number, begin.way, begin.given)
        self.do(self.part.begun(begin.number, self.world.now))

    def tell(self) -> None:
        if self.leader:
            self.leader.saw(self.name, self.world.taken[self.name])
        elif self.member.phase == decisions.WAITING and self.is_up:
            self.electing.say("", {"stand": self.world.taken[self.name]}, self.world.now)

    def tick(self) -> None:
        now = self.world.now
        self.electing.look(now)
        if self.leader and self.member.tick(now):
            self.held = []
        self.do(self.part.tick(now))
        if self.leader and self.leader.is_done and not self.leader.takes_part:
            self.do([Stop(protocol.NOT_NEEDED)])


class World:
    """Some hosts, with a network that delays, and cuts. The run needs as many of them as are ``wanted``."""

    def __init__(self, count: int = 3, wanted: int = 1) -> None:
        self.now, self.names = 0.0, list(NAMES[:count])
        self.ways = list(combinations(self.names, wanted))
        self.taken = dict.fromkeys(self.names, False)  # GPUs that others hold
        self.lines: list[Line] = []
        self.apart: set[frozenset[str]] = set()
        FULL.clear()
        made = electing.SeatLines
        electing.SeatLines = lambda spec, here, now, ports, *how: Lines(self, here, *how)  # type: ignore
        try:
            self.hosts = {name: Host(self, name) for name in self.names}
        finally:
            electing.SeatLines = made  # type: ignore[misc]

    def pairs(self) -> list[frozenset[str]]:
        return [frozenset(two) for two in combinations(self.names, 2)]

    def call(self, name: str, other: str) -> None:
        caller, called = self.hosts[name], self.hosts[other]
        able = caller.is_up and caller.lines.is_to_call and called.is_up and name != other
        if not able or frozenset((name, other)) in self.apart or not called.lines.welcomes(name):
            return
        for line in called.lines.mine():
            if line.caller == name:
                called.electing.take(called.lines.drop(line), self.now)
        line = Line(name, other)
        line.ends[name].append(None)
        self.lines.append(line)
        called.electing.take([(CAME, name, {})], self.now)

    def bring(self, line: Line, name: str) -> None:
        """Bring the next message to an end of a line."""
        host = self.hosts[name]
        if not (line.open[name] and host.is_up and line.ends[name]):
            return
        word = line.ends[name].popleft()
        if word is None:
            line.is_welcome = True
            host.electing.take([(JOINED, line.called, {})], self.now)
        else:
            host.electing.take([(SAID, line.other(name), word)], self.now)
        self.after(host)

    def after(self, host: Host) -> None:
        if host.is_up:
            host.tick()

    def cut(self, pair: frozenset[str]) -> None:
        self.apart.add(pair)
        for line in self.lines:
            if line.ends.keys() == pair:
                self.lose(line)

    def lose(self, line: Line) -> None:
        line.works = False
        for waiting in line.ends.values():
            waiting.clear()

    def notice(self, line: Line, name: str) -> None:
        host = self.hosts[name]
        if line.works or not line.open[name] or not host.is_up or line.ends[name]:
            return
        host.electing.take(host.lines.drop(line), self.now)
        self.after(host)

    def kill(self, name: str) -> None:
        host = self.hosts[name]
        host.alive, host.held = False, []
        for line in host.lines.mine():
            self.lose(line)
            line.open[name] = False

    def take(self, name: str) -> None:
        host = self.hosts[name]
        if not host.held and host.is_up:
            self.taken[name] = not self.taken[name]
            host.tell()
            self.after(host)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts.values():
            self.after(host)

    def stand_still(self, name: str, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts.values():
            if host.name != name:
                self.after(host)

    def check(self) -> None:
        values = {host.written for host in self.hosts.values() if host.written}
        assert len(values) <= 1, "once"
        for host in self.hosts.values():
            assert not (host.held and self.taken[host.name]), "no GPU twice"

    def settle(self, seconds: int = 240) -> None:
        """Let everybody who lives talk, for so many seconds."""
        for second in range(seconds):
            for _ in range(40):
                busy = False
                for line in [one for one in self.lines if any(one.open.values())]:
                    for name in line.ends:
                        while line.open[name] and self.hosts[name].is_up and line.ends[name]:
                            self.bring(line, name)
                            busy = True
                        self.notice(line, name)
                if not busy:
                    break
            for host in self.hosts.values():  # each tries another one each second
                order = [name for name in self.names if name != host.name]
                for name in order[second % len(order) :] + order[: second % len(order)]:
                    self.call(host.name, name)
            self.wait(1.0)
            self.lines = [one for one in self.lines if any(one.open.values())]
            self.check()


@pytest.fixture(autouse=True, scope="module")
def _no_disk() -> Iterator[None]:
    """What is kept on the disk lasts as long as a host here: a dead one has no vote. Each has a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "keep", lambda key, hosts: key not in FULL)
        patch.setattr(agreement, "forget", lambda: None)
        patch.setattr(electing, "fault_of", lambda word: "")  # how things stand is one word here
        yield


def run(world: World, steps: list[Any]) -> None:  # noqa: C901, PLR0912 - a line for each kind
    for kind, one, other in steps:
        name = world.names[one % len(world.names)]
        pair = world.pairs()[one % len(world.pairs())]
        lines = [line for line in world.lines if any(line.open.values())]
        line = lines[one % len(lines)] if lines else None
        if kind == "call":
            world.call(name, world.names[other % len(world.names)])
        elif kind in ("bring", "all", "notice") and line:
            ends = list(line.ends)
            end = ends[other % 2]
            if kind == "notice":
                world.notice(line, end)
            for _ in range({"bring": 1, "all": 20, "notice": 0}[kind]):
                world.bring(line, end)
        elif kind == "cut":
            world.cut(pair)
        elif kind == "mend":
            world.apart.discard(pair)
        elif kind == "take":
            world.take(name)
        elif kind == "fill":
            FULL.symmetric_difference_update([name])
        elif kind == "kill" and other % 4 == 0:
            world.kill(name)
        elif kind == "wait":
            world.wait((0.5, 5.0, 6.0, 31.0)[other % 4])
        elif kind == "still":
            world.stand_still(name, (6.0, 31.0, 91.0)[other % 3])
        elif kind == "settle":
            world.settle(3)
        world.check()


kinds = st.sampled_from(
    ["call"] * 4 + ["bring"] * 8 + ["all"] * 6 + ["notice"] * 3 + ["cut", "cut", "mend", "take"]
    + ["kill", "fill", "wait", "wait", "still", "settle", "settle"]
)  # fmt: skip
steps = st.lists(st.tuples(kinds, st.integers(0, 60), st.integers(0, 60)), max_size=80)


def begins_if_it_can(world: World) -> None:
    """Check that a run begins whose hosts are in touch with each other, a majority of all."""
    killed = [host for host in world.hosts.values() if not host.is_up]
    ended = [host.ended for host in killed if host.ended not in ("", protocol.NOT_NEEDED)]
    if ended or any(host.written for host in killed):
        return  # it is over, or has begun on a host that is off
    alive = [host for host in world.hosts.values() if host.is_up]
    if not any(host.written for host in alive):
        world.apart.clear()
        FULL.clear()
        world.taken = dict.fromkeys(world.names, False)
        for host in alive:
            host.tell()
    bound = {host.name for host in alive if host.electing.seat.agreed}
    unsure = {
        name
        for host in alive
        if host.electing.seat.agreed
        for name in host.electing.seat.agreed.given
    }
    world.settle()
    if 2 * len(alive) <= len(world.names) or (bound and unsure & {one.name for one in killed}):
        return
    able = any(set(way) <= {host.name for host in alive} for way in world.ways)
    begun = [host.name for host in world.hosts.values() if host.begun]
    ended = [host.ended for host in world.hosts.values() if host.ended]
    assert begun or not able or protocol.HOSTS_PARTED in ended, [h.lines.mine() for h in alive]


@pytest.mark.parametrize(("count", "wanted"), [(3, 1), (3, 2), (5, 2), (4, 3)])
@given(steps=steps)
@settings(deadline=None, max_examples=60)
def test_it_begins_once_at_most_and_where_most_are_in_touch(
    count: int, wanted: int, steps: list[Any]
) -> None:
    world = World(count, wanted)
    world.taken = dict.fromkeys(world.names, True)
    run(world, steps)
    begins_if_it_can(world)


def waiting(count: int = 3, wanted: int = 1) -> World:
    """Return hosts that wait together, as all of their GPUs are in use."""
    world = World(count, wanted)
    world.taken = dict.fromkeys(world.names, True)
    world.settle(30)
    assert [name for name, host in world.hosts.items() if host.leader] == ["a"]
    return world


def test_the_next_host_leads_once_the_leader_is_off() -> None:
    world = waiting()
    world.kill("a")
    world.settle(30)
    assert [name for name, host in world.hosts.items() if host.leader and host.alive] == ["b"]
    world.take("c")
    world.settle(10)
    assert [name for name, host in world.hosts.items() if host.begun] == ["c"]
    assert world.hosts["b"].ended == protocol.NOT_NEEDED


def test_a_leader_that_was_cut_off_begins_nothing_and_follows_when_it_is_back() -> None:
    world = waiting()
    for other in ("b", "c"):
        world.cut(frozenset(("a", other)))
    world.take("a")
    world.settle(30)
    assert not any(host.begun for host in world.hosts.values()), "its host is free, but it is alone"
    assert [name for name, host in world.hosts.items() if host.leader] == ["b"]
    world.apart.clear()
    world.settle(30)
    assert [name for name, host in world.hosts.items() if host.begun] == ["a"]
    assert {world.hosts[name].ended for name in ("b", "c")} == {protocol.NOT_NEEDED}


def test_who_was_away_hears_that_it_has_begun_from_who_has_begun() -> None:
    world = waiting()
    for other in ("b", "c"):
        world.cut(frozenset(("a", other)))
    world.settle(30)
    world.take("c")
    world.settle(10)
    assert world.hosts["c"].begun
    assert world.hosts["b"].ended == protocol.NOT_NEEDED
    world.apart.clear()
    world.settle(30)
    assert world.hosts["a"].ended == protocol.NOT_NEEDED


def test_of_two_hosts_nobody_leads_without_the_other() -> None:
    world = waiting(4)
    for one in ("a", "b"):
        for other in ("c", "d"):
            world.cut(frozenset((one, other)))
    for name in world.names:
        world.take(name)
    world.settle(60)
    assert not any(host.begun for host in world.hosts.values())
    assert not any(host.leader for host in world.hosts.values())
    world.apart.clear()
    world.settle(60)
    assert len([name for name, host in world.hosts.items() if host.begun]) == 1


def test_a_start_that_may_have_happened_is_waited_for() -> None:
    """The leader is off, just after the others have agreed that the run begins on its own host."""
    world = waiting()
    world.take("a")
    leader = world.hosts["a"]
    leader.tick()
    for line in list(world.lines):
        for _ in range(5):
            if line.ends.get("b") or line.ends.get("c"):
                world.bring(line, line.other("a"))
    assert world.hosts["b"].electing.seat.agreed, "the others have agreed"
    world.kill("a")
    for name in ("b", "c"):
        world.take(name)
    world.settle(60)
    assert not any(host.begun for host in world.hosts.values() if host.alive)
    (leads,) = [host.leader for host in world.hosts.values() if host.leader and host.alive]
    assert leads.unsure == ["a"]


def test_a_start_that_did_not_happen_is_made_up_for() -> None:
    """The leader is off, just after the others have agreed that the run begins on one of them."""
    world = waiting()
    world.take("c")
    world.settle(0)
    for _ in range(50):
        for line in list(world.lines):
            for name in ("a", "c", "b"):
                if line.open.get(name) and not world.hosts["b"].electing.seat.agreed:
                    world.bring(line, name)
    assert not any(host.begun for host in world.hosts.values())
    world.kill("a")
    world.settle(120)
    assert [name for name, host in world.hosts.items() if host.begun] == ["c"]


@pytest.mark.parametrize("free", ["a", "c"])
def test_a_start_to_which_too_few_disks_agree_keeps_nothing_meanwhile(free: str) -> None:
    """Those that are full belong to hosts that it does not begin on. It begins once one has room."""
    world = waiting()
    FULL.update({"a", "b", "c"} - {free})
    world.take(free)
    world.settle(3)
    assert [host.held for host in world.hosts.values()] == [[], [], []]
    assert [name for name, host in world.hosts.items() if not host.has_room] == sorted(FULL)
    FULL.remove("b")
    world.settle(10)
    assert [name for name, host in world.hosts.items() if host.begun] == [free]


def test_who_has_promised_to_follow_a_host_that_never_leads_goes_on() -> None:
    """Those that it had in touch are gone before enough of them have promised."""
    seat = Seat("e", NAMES)
    seat.reached("b", 0.0)
    assert seat.heard({"lead": 1}, 5.0), "it promises"
    patience = SITS + MORE * 4
    assert seat.tick(5.0 + patience - 0.1) == []
    assert seat.tick(5.0 + patience) == [HangUp("b")]


def test_who_follows_the_leader_stays() -> None:
    seat = Seat("e", NAMES)
    seat.reached("b", 0.0)
    seat.heard({"lead": 1}, 5.0)
    seat.heard({"leads": 1}, 6.0)
    assert (seat.tick(1000.0), seat.next_tick()) == ([], float("inf"))
