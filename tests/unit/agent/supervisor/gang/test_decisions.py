"""Hosts that wait together: whatever is lost, delayed or killed, they begin once, and all on what they
hold. Where the run may choose, it begins on the hosts that are free, whether the leader is one or not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.base import protocol
from launcher.agent.supervisor.gang import decisions
from launcher.agent.supervisor.gang.decisions import Begin, Claim, Leader, Release, Send, Stop, Turn
from launcher.agent.supervisor.gang.member import Member

HOSTS = ("a", "b", "c")
#: The ways to run: on all hosts, on any two, or on any one.
WAYS = {number: list(combinations(HOSTS, number)) for number in (3, 2, 1)}


class Host:
    """One supervisor, with two GPUs of its host of which others may take any."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.part: Any = (
            Leader(name, HOSTS[1:], self.decide, world.now, world.ways)
            if name == "a"
            else Member(world.now)
        )
        self.held: list[int] = []  # GPUs that are locked
        self.begun: list[Any] = []  # what it has begun on
        self.written: list[Any] = []  # what it has written down that the run has begun on
        self.ended = ""
        self.alive = True

    def decide(self, stands: Mapping[str, Any]) -> Turn | None:
        free = {host for host, taken in stands.items() if not taken}
        for number, way in enumerate(self.world.ways):
            if free >= set(way):
                return Turn(number, {host: [0] for host in way})
        return None

    def do(self, instructions: Any) -> None:
        for one in instructions:
            if isinstance(one, Send):
                self.world.send(self.name, one.host or "a", one.word)
            elif isinstance(one, Claim):
                if self.world.taken[self.name]:
                    self.do(self.part.refused(one.number, self.world.now))
                    continue
                self.held = one.gpus
                mine: Any = {"gpus": one.gpus, "names": ["0"], "ports": [1]}
                self.do(self.part.held(one.number, mine, self.world.now))
            elif isinstance(one, Release):
                assert not self.begun, "what has begun lets go of nothing"
                self.held = []
                self.world.tell(self.name)
            elif isinstance(one, Begin):
                takes_part = self.name in one.given
                if takes_part:
                    assert self.held == one.given[self.name]["gpus"], "on what it holds"
                if self.world.fails == self.name:
                    self.do(self.part.could_not(one.number, self.world.now))
                    continue
                assert not self.written, "once"
                self.world.check_claims(self.name, one.given)
                assert self.name == "a" or self.world.hosts["a"].written == [one.given]
                self.written.append(one.given)
                self.begun += [one.given] if takes_part else []
                self.do(self.part.begun(one.number, self.world.now))
            elif isinstance(one, Stop) and not self.ended:
                self.ended = one.why
                self.held = self.held if self.begun else []
                self.do(self.part.over(one.why))

    def tick(self) -> None:
        if self.name == "a" and self.part.phase == decisions.WAITING:
            self.part.saw("a", self.world.taken["a"])
        if not self.ended:
            self.do(self.part.tick(self.world.now))
        if self.name == "a" and self.part.is_done and not self.part.takes_part:
            self.do([Stop(protocol.NOT_NEEDED)])


class World:
    """Three hosts, with a network that delays, and cuts. The run needs as many of them as are
    ``wanted``."""

    def __init__(self, wanted: int = 3) -> None:
        self.now, self.ways = 0.0, WAYS[wanted]
        self.taken = dict.fromkeys(HOSTS, False)  # GPUs that others hold
        self.fails = ""  # the host that cannot begin
        #: By member, what is on its way to it, and from it.
        self.lines: dict[str, dict[bool, list[dict[str, Any]]]] = {}
        self.hosts = {name: Host(self, name) for name in HOSTS}

    def send(self, source: str, to: str, word: dict[str, Any]) -> None:
        member = to if source == "a" else source
        if member in self.lines:
            self.lines[member][to == member].append(word)

    def cut(self, member: str) -> None:
        """Pull a cable; what is on its way is lost."""
        if self.lines.pop(member, None) is not None:
            leader, other = self.hosts["a"], self.hosts[member]
            if leader.alive and not leader.ended:
                leader.do(leader.part.parted(member, self.now))
            if other.alive:
                other.part.parted(self.now)

    def join(self, member: str) -> None:
        leader, other = self.hosts["a"], self.hosts[member]
        if member in self.lines or not leader.alive or not other.alive or other.ended:
            return
        self.lines[member] = {True: [], False: []}
        leader.do(leader.part.joined(member, self.now))
        other.do(other.part.joined(self.now))
        self.tell(member)

    def tell(self, member: str) -> None:
        """Tell the leader how things stand, as a host does that has claimed nothing."""
        if member != "a" and self.hosts[member].part.phase == decisions.WAITING:
            self.send(member, "a", {"stand": self.taken[member]})

    def bring(self, member: str, to_member: bool = True) -> None:
        """Bring the next message of a line, in one direction."""
        waiting = self.lines.get(member, {}).get(to_member)
        if not waiting:
            return
        word, host = waiting.pop(0), self.hosts[member if to_member else "a"]
        if not host.alive or (host.ended and to_member):
            return
        if to_member:
            host.do(host.part.heard(word, self.now))
        elif "stand" in word:
            host.part.saw(member, word["stand"])
        else:
            host.do(host.part.heard(member, word, self.now))
        host.tick()

    def fetch(self, member: str) -> None:
        self.bring(member, to_member=False)

    def kill(self, name: str) -> None:
        for member in HOSTS[1:] if name == "a" else (name,):
            self.cut(member)
        host = self.hosts[name]
        host.alive = False
        host.held = []

    def take(self, name: str) -> None:
        """Somebody takes GPUs of a host, if nobody has them, or gives them back."""
        if not self.hosts[name].held:
            self.taken[name] = not self.taken[name]
            self.tell(name)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for host in self.hosts.values():
            if host.alive:
                host.tick()

    def stand_still(self, seconds: float) -> None:
        """Let time pass for all but the leader: it was stopped, or its machine suspended."""
        self.now += seconds
        for name in HOSTS[1:]:
            if self.hosts[name].alive:
                self.hosts[name].tick()

    def check_claims(self, name: str, given: Mapping[str, Any]) -> None:
        """Check that nobody has let go of what the leader is about to begin on."""
        members = [self.hosts[one] for one in HOSTS[1:] if one in given] if name == "a" else []
        assert all(one.held for one in members if one.alive and not one.ended)

    def check(self) -> None:
        begun = [host for host in self.hosts.values() if host.written]
        assert len({str(host.written) for host in begun}) <= 1, "all on the same"
        for host in self.hosts.values():
            assert not (host.held and self.taken[host.name]), "no GPU twice"

    def settle(self) -> None:
        """Let everybody talk until nothing is left to be said, and much time pass."""
        for _ in range(4):
            for member in HOSTS[1:]:
                self.join(member)
            while any(any(line.values()) for line in self.lines.values()):
                for member in HOSTS[1:]:
                    self.bring(member)
                    self.fetch(member)
            self.wait(decisions.HOLD)


members = st.sampled_from(HOSTS[1:])
talk = st.tuples(st.sampled_from(["bring", "fetch"]), members)
trouble = st.one_of(
    st.tuples(st.sampled_from(["cut", "join"]), members),
    st.tuples(st.just("take"), st.sampled_from(HOSTS)),
    st.tuples(
        st.sampled_from(["wait", "stand_still"]),
        st.sampled_from([0.1, 1.0, decisions.PATIENCE, decisions.HOLD]),
    ),
)
steps = st.integers(0, 9).flatmap(lambda dice: trouble if dice == 0 else talk)


@pytest.mark.thorough
@settings(max_examples=300)
@given(
    st.lists(steps, min_size=20, max_size=60),
    st.none() | st.tuples(st.integers(0, 60), st.sampled_from(HOSTS)),
    st.sampled_from(["", "", "b"]),
    st.sampled_from([3, 2, 1]),
)
def test_they_begin_together_once_or_not_at_all(
    story: list[Any], kill: tuple[int, str] | None, fails: str, wanted: int
) -> None:
    world = World(wanted)
    world.fails = fails
    for member in HOSTS[1:]:
        world.join(member)
        world.fetch(member)  # how things stand there: it is their turn at once
    for number, (what, about) in enumerate(story):
        if kill and number == kill[0]:
            world.kill(kill[1])
        getattr(world, what)(about)
        world.check()
    if kill and kill[0] >= len(story):
        world.kill(kill[1])
    world.taken = dict.fromkeys(HOSTS, False)
    for member in HOSTS[1:]:
        world.tell(member)
    world.settle()
    world.check()
    alive = [host for host in world.hosts.values() if host.alive]
    begun = [one for one in world.hosts.values() if one.begun]
    ended = [one for one in alive if one.ended]
    for host in alive:
        assert bool(host.held) is bool(host.begun), "nobody keeps what he has not begun on"
    leader = world.hosts["a"]
    if leader.alive:
        assert len(begun) == wanted or ended or len(alive) < len(HOSTS), "it begins, or says why"
        if len(begun) < wanted and leader.written:
            assert leader.ended == protocol.HOSTS_PARTED
        assert all(one.ended for one in alive if leader.ended and not one.begun), (
            "all hear of the end"
        )
    elif not leader.ended and not leader.written:
        assert not ended, "who has no leader waits"


def words(instructions: Any) -> list[Any]:
    return [(one.host, one.word) for one in instructions if isinstance(one, Send)]


def test_what_begins_is_claimed_on_every_host_first() -> None:
    leader = Leader("a", ["b"], lambda stands: Turn(0, {"a": [3], "b": [1, 2]}), 0.0)
    leader.saw("a", {})
    assert leader.tick(0.0) == [], "not before all are in touch"
    assert leader.missing == ["b"]
    assert leader.joined("b", 1.0) == [Send("b", {"release": 0}), Send("b", {"met": 1})]
    leader.saw("b", {})
    assert leader.tick(1.0) == [Claim(1, [3])]
    mine: Any = {"gpus": [3], "names": ["3"], "ports": [20_000, 20_001]}
    assert leader.held(1, mine, 1.0) == [Send("b", {"claim": 1, "way": 0, "gpus": [1, 2]})]
    (begin,) = leader.heard("b", {"held": 1, "names": ["1", "2"], "ports": [30_000]}, 2.0)
    theirs = {"gpus": [1, 2], "names": ["1", "2"], "ports": [30_000]}
    assert begin == Begin(1, {"a": mine, "b": theirs})
    given = {"a": mine, "b": theirs}
    assert words(leader.begun(1, 2.0)) == [("b", {"begin": 1, "given": given, "way": 0})]
    assert not leader.is_done
    assert leader.heard("b", {"begun": 1}, 2.1) == [Send("b", {"known": 1})]
    assert leader.is_done
    assert leader.tick(1e9) == []


def test_a_refusal_lets_all_go_and_is_tried_again() -> None:
    leader = Leader("a", ["b"], lambda stands: Turn(0, {"a": [3], "b": [1]}), 0.0)
    leader.joined("b", 0.0)
    leader.saw("a", {})
    leader.saw("b", {})
    assert leader.tick(0.0) == [Claim(1, [3])]
    leader.held(1, {"gpus": [3], "names": [], "ports": []}, 0.0)
    assert leader.heard("b", {"refused": 1}, 1.0) == [Release(), Send("b", {"release": 1})]
    assert leader.tick(1.0) == []
    assert leader.next_tick(1.0) == 1.0 + decisions.PAUSE
    assert leader.tick(1.0 + decisions.PAUSE) == [Claim(2, [3])]
    assert leader.heard("b", {"held": 1, "names": [], "ports": []}, 2.0) == [], "of another round"


def test_a_leader_that_stood_still_begins_on_no_old_claim() -> None:
    """Whoever has held it for that long may have let it go."""
    leader = Leader("a", ["b"], lambda stands: Turn(0, {"a": [3], "b": [1]}), 0.0)
    leader.joined("b", 0.0)
    leader.saw("a", {})
    leader.saw("b", {})
    assert leader.tick(0.0) == [Claim(1, [3])]
    leader.held(1, {"gpus": [3], "names": ["3"], "ports": []}, 0.0)
    held = {"held": 1, "names": ["1"], "ports": []}
    late = decisions.PATIENCE + decisions.HOLD
    assert leader.heard("b", held, late) == [Release(), Send("b", {"release": 1})]
    assert leader.tick(late + decisions.PAUSE) == [Claim(2, [3])], "it waits on"


def test_a_host_that_hears_nothing_keeps_its_claim_for_as_long_as_the_leader_may_begin() -> None:
    assert decisions.HOLD > decisions.PATIENCE + decisions.ANSWER
    member = Member(0.0)
    member.joined(0.0)
    assert member.heard({"claim": 4, "gpus": [1]}, 1.0) == [Claim(4, [1])]
    member.held(4, {"gpus": [1], "names": ["1"], "ports": []}, 1.0)
    member.parted(2.0)
    assert member.tick(decisions.HOLD) == []
    assert member.tick(1.0 + decisions.HOLD) == [Release()]
    assert member.heard({"begin": 4, "given": {}}, 200.0) == [Send("", {"lapsed": 4})]


def test_who_is_alone_holds_nobody_back() -> None:
    member = Member(0.0)
    assert not member.is_forsaken(decisions.FORSAKEN - 1)
    assert member.is_forsaken(decisions.FORSAKEN)
    member.joined(10.0)
    assert not member.is_forsaken(100.0)
    leader = Leader("a", ["b", "c"], lambda stands: None, 0.0)
    leader.joined("b", 0.0)
    assert leader.is_forsaken(decisions.FORSAKEN), "c is missing"
    leader.joined("c", 9.0)
    leader.parted("b", 10.0)
    assert not leader.is_forsaken(10.0)
    assert leader.is_forsaken(10.0 + decisions.FORSAKEN)


def test_a_leader_that_is_not_needed_begins_on_another_host() -> None:
    leader = Leader("a", ["b", "c"], lambda stands: Turn(1, {"b": [1]}), 0.0, [("a",), ("b",)])
    leader.joined("b", 0.0)
    leader.saw("b", {})
    assert leader.tick(1.0) == [], "c may still come"
    assert leader.next_tick(1.0) == decisions.GATHER
    assert leader.tick(decisions.GATHER) == [
        Send("b", {"met": 1}),
        Send("b", {"claim": 1, "way": 1, "gpus": [1]}),
    ]
    leader.joined("c", 6.0)
    theirs = {"gpus": [1], "names": ["1"], "ports": []}
    held = {"held": 1, "names": ["1"], "ports": []}
    assert leader.heard("b", held, 6.0) == [Begin(1, {"b": theirs}, 1)]
    assert words(leader.begun(1, 6.0)) == [
        ("b", {"begin": 1, "given": {"b": theirs}, "way": 1}),
        ("c", {"over": protocol.NOT_NEEDED}),
    ]
    assert leader.heard("c", {"over": protocol.NOT_NEEDED}, 6.1) == [], "the run goes on"
    assert not leader.is_done
    leader.heard("b", {"begun": 1}, 6.1)
    assert leader.is_done
    assert leader.over(protocol.NOT_NEEDED) == [], "who runs it goes on"
    assert words(leader.over("by-user")) == [
        ("b", {"over": "by-user"}),
        ("c", {"over": "by-user"}),
    ]


def test_an_elastic_run_looks_out_for_more_hosts_before_it_begins_on_some() -> None:
    turns = [Turn(1, {"a": [0]}), Turn(0, {"a": [0], "b": [1]}), None, Turn(1, {"a": [0]})]
    leader = Leader("a", ["b"], lambda stands: turns[0], 0.0, [("a", "b"), ("a",)])
    leader.joined("b", 0.0)
    leader.saw("a", {})
    assert leader.tick(1.0) == []
    assert leader.next_tick(1.0) == 1.0 + decisions.SETTLE
    leader.saw("b", {})
    assert leader.tick(2.0) == [], "it looks once that time is over"
    turns.pop(0)
    assert leader.tick(1.0 + decisions.SETTLE) == [decisions.Claim(1, [0], 0)]
    leader.refused(1, 4.0)
    turns.pop(0)
    assert leader.tick(5.0) == []
    turns.pop(0)
    leader.saw("b", {})
    assert leader.tick(6.0) == [], "the time begins anew"
    assert leader.tick(6.0 + decisions.SETTLE) == [decisions.Claim(2, [0], 1)]


def test_hosts_that_suffice_hold_others_back() -> None:
    leader = Leader("a", ["b", "c"], lambda stands: None, 0.0, [("a", "b"), ("a", "c"), ("b", "c")])
    assert leader.is_forsaken(decisions.FORSAKEN)
    leader.joined("c", 9.0)
    assert not leader.is_forsaken(100.0)
    leader.parted("c", 100.0)
    assert not leader.is_forsaken(100.0)
    assert leader.is_forsaken(100.0 + decisions.FORSAKEN)
