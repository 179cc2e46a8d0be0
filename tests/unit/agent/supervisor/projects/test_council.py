"""Leaders that decide about one project at once: whatever is lost, delayed or cut off, it never has more
than its quota, and somebody gets on."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.supervisor import stands, turns
from launcher.agent.supervisor.gang import decisions
from launcher.agent.supervisor.gang.words import fault_of
from launcher.agent.supervisor.projects import quotas, round_steps
from launcher.agent.supervisor.projects.council import Council

HOSTS = ("h1", "h2", "h3", "h4", "h5")
QUOTA = 6
#: How projects stand where nothing is.
SAID: Any = {"members": [], "books": [], "user": "ann"}
#: The hosts of each run, and the numbers of GPUs that it may begin with.
RUNS = {
    "a": (("h1",), (4,)),
    "b": (("h2",), (4,)),
    "c": (("h1", "h3"), (2,)),
    "d": (("h4",), (6,)),
    "e": (("h2", "h5"), (1,)),
    "f": (("h3", "h4"), (1, 2, 3, 7)),
}


def project(gpus: int) -> Any:
    return {
        "name": "team-a",
        "gpus": gpus,
        "rules": {"team-a": {"quota": QUOTA, "users": ["ann"], "limit": None}},
        "voters": {host: host for host in HOSTS},
    }


class World:
    """Hosts with books, locks and what runs show; leaders of runs; words on their way, by leader and
    host."""

    def __init__(self, seed: int) -> None:
        self.dice, self.now, self.number = random.Random(seed), 0.0, 0
        self.books: dict[str, dict[str, Any]] = {host: {} for host in HOSTS}
        self.shown: dict[str, dict[str, int]] = {host: {} for host in HOSTS}
        self.locks: dict[str, str] = {}
        self.wanted: dict[str, list[tuple[str, Any]]] = {host: [] for host in HOSTS}
        self.councils = {
            run: Council(run, project(some[0]), some) for run, (_, some) in RUNS.items()
        }
        self.wanted_by: dict[str, int] = {}  # GPUs, in the last round of a run
        self.cut: set[tuple[str, str]] = set()
        self.asked: dict[tuple[str, str], list[Any]] = {}
        self.told: dict[tuple[str, str], list[Any]] = {}
        self.alive: set[str] = set()
        self.begun = 0

    # -- leaders

    def begin(self, run: str) -> None:
        mine = RUNS[run][0]
        if any((run, host) in self.cut for host in mine):
            return
        self.number += 1
        in_touch = [host for host in HOSTS if (run, host) not in self.cut]
        gpus = self.wanted_by[run] = self.dice.choice(RUNS[run][1])
        self.say(run, self.councils[run].begin(self.number, mine, gpus, in_touch, self.now))

    def say(self, run: str, words: Any) -> None:
        for host, word in words:
            if (run, host) not in self.cut:
                self.asked.setdefault((run, host), []).append(word["ask"])
        found = self.councils[run].round
        if found is None or not (found.is_allowed or found.is_refused):
            return
        self.councils[run].end()
        if found.is_allowed:
            self.alive.add(run)
            self.begun += 1
            self.check()
        else:
            for host in HOSTS:
                if (run, host) not in self.cut:
                    self.asked.setdefault((run, host), []).append({"do": "release"})

    def check(self) -> None:
        used = sum(self.wanted_by[run] for run in self.alive)
        assert used <= QUOTA, (sorted(self.alive), self.books)

    def end(self, run: str) -> None:
        """It is over, and some of its books are not reached."""
        self.alive.discard(run)
        for host in RUNS[run][0]:
            self.shown[host].pop(run, None)
        for host in self.dice.sample(HOSTS, self.dice.randint(0, 5)):
            self.books[host].pop(run, None)

    # -- hosts

    def serve(self, run: str, host: str) -> None:
        ask = self.asked[run, host].pop(0)
        do = ask["do"]
        if do == round_steps.ENTER:
            self.shown[host][run] = ask["gpus"]
        elif do == round_steps.LOCK:
            self.wanted[host].append((run, ask))
            self.lock(host)
            return
        elif do == round_steps.WRITE:
            done = self.locks.get(host) == run
            if done:
                book = {"project": "team-a", "run": run, "user": "ann", "preemptible": False}
                self.books[host][run] = {**book, "gpus": ask["gpus"], "hosts": ask["hosts"]}
            self.unlock(run, host)
            self.answer(run, host, ask, done)
            return
        elif do == "release":
            self.shown[host].pop(run, None)
            self.books[host].pop(run, None)
        elif do == round_steps.TIDY:
            for one in ask["runs"]:
                self.books[host].pop(one, None)
        if do in ("release", round_steps.UNLOCK):
            self.unlock(run, host)
        if do in (round_steps.ENTER, round_steps.LOOK):
            said = self.said(host) if do == round_steps.LOOK else {}
            self.answer(run, host, ask, True, said=said)

    def said(self, host: str) -> Any:
        about = {"project": "team-a", "user": "ann", "age": 1.0, "preemptible": False}
        members = [
            {**about, "run": run, "gpus": gpus, "within": True, "waits": False}
            for run, gpus in self.shown[host].items()
        ]
        return {"members": members, "books": [*self.books[host].values()], "user": "ann"}

    def lock(self, host: str) -> None:
        if host not in self.locks and self.wanted[host]:
            run, ask = self.wanted[host].pop(0)
            self.locks[host] = run
            self.answer(run, host, ask, True)

    def unlock(self, run: str, host: str) -> None:
        self.wanted[host] = [one for one in self.wanted[host] if one[0] != run]
        if self.locks.get(host) == run:
            del self.locks[host]
        self.lock(host)

    def answer(self, run: str, host: str, ask: Any, done: bool, **more: Any) -> None:
        word = {"round": ask["round"], "do": ask["do"], "done": int(done), **more}
        self.told.setdefault((run, host), []).append(word)

    # -- what happens

    def part(self, run: str, host: str) -> None:
        """Pull a cable: what is on its way is lost, and the host lets go of its lock."""
        self.cut.add((run, host))
        self.asked.pop((run, host), None)
        self.told.pop((run, host), None)
        self.unlock(run, host)
        self.say(run, self.councils[run].lost(host, self.now))

    def join(self, run: str, host: str) -> None:
        """Put it back: what the host did for a start that has not come is void."""
        self.cut.discard((run, host))
        if run not in self.alive:
            self.asked.setdefault((run, host), []).append({"do": "release"})

    def step(self, calm: bool) -> None:
        dice = self.dice
        waiting = [one for one in self.asked if self.asked[one]]
        answered = [one for one in self.told if self.told[one]]
        idle = [run for run in RUNS if run not in self.alive and self.councils[run].round is None]
        what = dice.random()
        if what < 0.45 and waiting:
            self.serve(*dice.choice(waiting))
        elif what < 0.8 and answered:
            run, host = dice.choice(answered)
            word = self.told[run, host].pop(0)
            self.say(run, self.councils[run].heard(host, word, self.now))
        elif what < 0.88 and idle:
            self.begin(dice.choice(idle))
        elif what < 0.91 and self.alive:
            self.end(dice.choice(sorted(self.alive)))
        elif what < 0.94 and not calm:
            run, host = dice.choice([*RUNS]), dice.choice(HOSTS)
            (self.join if (run, host) in self.cut else self.part)(run, host)
        elif what > 0.97:
            self.now += 0.01 if calm else dice.choice([0.1, 1.0, 4.0])
            for run in RUNS:
                self.say(run, self.councils[run].tick(self.now))


@pytest.mark.thorough
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
def test_no_project_has_more_than_its_quota_whoever_decides_at_once(seed: int) -> None:
    world = World(seed)
    for _ in range(1500):
        world.step(calm=False)


def test_those_that_decide_at_once_do_not_block_each_other() -> None:
    for seed in range(5):
        world = World(seed)
        for _ in range(8000):
            world.step(calm=True)
        assert world.begun > 5, "somebody gets on"


def test_without_a_majority_it_says_who_is_missing() -> None:
    mine = Council("a", project(4))
    for host in ("h1", "h3"):
        mine.saw(host, {"members": [], "books": [], "user": "ann"}, 0.0)
    found = mine.learn(1.0)
    assert (found.why, found.silent) == (quotas.NO_MAJORITY, ("h2", "h4", "h5"))
    mine.saw("h5", {"members": [], "books": [], "user": "ann"}, 0.0)
    assert mine.learn(1.0) == quotas.Standing(True, None, 0)
    mine.saw("h5", {}, 2.0)  # it cannot tell any more
    assert mine.learn(2.0).why == quotas.NO_MAJORITY


def test_a_run_that_lost_a_host_which_it_needs_asks_nobody_for_gpus() -> None:
    mine = Council("a", project(4))

    def decide(stands: Any) -> None:
        mine.learn(0.0)
        mine.takes = ["victim"]

    leader = decisions.Leader("h1", HOSTS[1:], decide, 0.0, [["h1", "h2"]], mine)
    for host in HOSTS:
        mine.saw(host, SAID, 0.0)
        leader.joined(host, 0.0)
    leader.saw("h1", {})
    leader.tick(0.0)
    assert mine.takes == ["victim"]
    leader.parted("h3", 1.0)
    leader.tick(1.0)
    assert mine.takes == ["victim"], "it needs h1 and h2"
    leader.parted("h2", 2.0)
    assert (mine.takes, leader.is_forsaken(2.0 + decisions.FORSAKEN)) == ([], True)


def test_a_host_that_parts_while_the_run_claims_is_heard_no_more() -> None:
    mine = Council("a", project(4))
    turn = decisions.Turn(0, {"h1": [0], "h2": [0]})
    leader = decisions.Leader("h1", HOSTS[1:], lambda stands: turn, 0.0, [["h1", "h2"]], mine)
    for host in HOSTS:
        mine.saw(host, SAID, 0.0)
        leader.joined(host, 0.0)
    leader.saw("h1", {})
    words = [*leader.tick(0.0)]
    while words and leader.phase == decisions.DECIDING:
        one = words.pop(0)
        ask = one.word.get("ask") if isinstance(one, decisions.Send) else None
        if ask:
            said = {"said": SAID} if ask["do"] == round_steps.LOOK else {}
            answer = {"round": ask["round"], "do": ask["do"], "done": 1, **said}
            words += leader.heard(one.host, {"answer": answer}, 0.0)
    assert leader.phase == decisions.CLAIMING
    for word in ({"over": "by-user"}, {"refused": 1}):
        assert leader.heard("h5", word, 1.0) == [], "it only decides"
    for host in HOSTS[1:4]:
        leader.parted(host, 1.0)
    assert mine.learn(1.0).silent == HOSTS[1:4]


@pytest.mark.parametrize("refused", [round_steps.LOCK, round_steps.WRITE, round_steps.ENTER])
def test_where_too_few_hosts_do_their_part_it_says_so_and_tries_again_later(refused: str) -> None:
    """Until then it holds nobody back."""
    mine, now = Council("a", project(4)), 0.0
    for host in HOSTS:
        mine.saw(host, SAID, 0.0)
    able, tries = HOSTS[:2], list[float]()

    def decide(stands: Any) -> decisions.Turn | None:
        if mine.learn(now).why:
            return None
        tries.append(now)
        return decisions.Turn(0, {"h3": [0]})

    leader = decisions.Leader("h1", HOSTS[1:], decide, now, [["h3"]], mine)
    for host in HOSTS[1:]:
        leader.joined(host, now)
    while now < 200:
        leader.saw("h1", {})
        words = leader.tick(now)
        while words:
            one = words.pop(0)
            ask = one.word.get("ask") if isinstance(one, decisions.Send) else None
            if not ask:
                continue
            done = int(ask["do"] != refused or one.host in able)
            said = {"said": SAID} if ask["do"] == round_steps.LOOK else {}
            answer = {"round": ask["round"], "do": ask["do"], "done": done, **said}
            words += leader.heard(one.host, {"answer": answer}, now)
        assert leader.phase == decisions.WAITING
        assert mine.learn(now).why == quotas.NO_MAJORITY
        now += 1
    assert mine.standing.silent == (("h3",) if refused == round_steps.ENTER else HOSTS[2:])
    assert [later - before for before, later in pairwise(tries)] == [10, 20, 40, 60, 60]
    mine.parted("h3")
    mine.saw("h3", SAID, now)
    assert mine.learn(now).why is None, "it may do its part once it is back"


def test_a_host_that_is_silent_is_passed_over_while_others_suffice() -> None:
    world = World(0)
    mine = world.councils["a"]
    world.begin("a")
    for _ in range(20):
        for pair in [one for one in world.asked if world.asked[one] and one[1] != "h2"]:
            world.serve(*pair)
        for run, host in [one for one in world.told if world.told[one]]:
            world.say(run, mine.heard(host, world.told[run, host].pop(0), world.now))
        if mine.round is None:
            break
        if world.asked.pop(("a", "h2"), None) and mine.round.step == round_steps.LOCK:
            world.now += round_steps.ANSWERS
            world.say("a", mine.tick(world.now))
    assert world.alive == {"a"}
    assert [host for host in HOSTS if "a" in world.books[host]] == ["h1", "h3", "h4", "h5"]


def test_a_run_that_others_have_no_room_for_is_held_back() -> None:
    world = World(0)
    world.shown["h2"]["b"] = 4
    world.begin("a")
    mine = world.councils["a"]
    while mine.round is not None:
        for pair in [one for one in world.asked if world.asked[one]]:
            world.serve(*pair)
        for run, host in [one for one in world.told if world.told[one]]:
            world.say(run, mine.heard(host, world.told[run, host].pop(0), world.now))
    assert (mine.standing.why, mine.standing.used, world.alive) == (quotas.QUOTA, 4, set())


def elastic(quota: int, *, may_borrow: bool = False, limit: int | None = None) -> Council:
    """Return the council of a run that may begin with 2, 4 or 6 GPUs, while others have 2."""
    rules: Any = {"team-a": {"quota": quota, "users": ["ann"], "limit": limit}}
    mine = Council("a", {**project(2), "rules": rules, "preemptible": int(may_borrow)}, [6, 2, 4])
    other: Any = {"project": "team-a", "run": "b", "user": "ann", "gpus": 2, "age": 1.0}
    member = {**other, "preemptible": False, "within": True, "waits": False}
    for host in HOSTS:
        mine.saw(host, {**SAID, "members": [member]}, 0.0)
    mine.learn(0.0)
    return mine


def test_an_elastic_run_stands_with_each_number_of_gpus() -> None:
    covered, held = quotas.Standing(True, None, 2), quotas.Standing(False, quotas.QUOTA, 2)
    mine = elastic(6)
    assert (mine.standings, mine.standing) == ({2: covered, 4: covered, 6: held}, covered)
    assert elastic(3).standing == held
    borrowed, most = quotas.Standing(False, None, 2), quotas.Standing(False, quotas.LIMIT, 2)
    mine = elastic(5, may_borrow=True, limit=6)
    assert mine.standings == {2: covered, 4: borrowed, 6: most}


@pytest.mark.parametrize(("gpus", "is_allowed"), [(4, True), (6, False)])
def test_a_round_is_about_the_number_that_the_run_would_have(gpus: int, is_allowed: bool) -> None:
    """The hosts show that number, and the books have it."""
    mine = elastic(6)
    said = mine._said["h1"][0]
    words, asked = mine.begin(1, ["h1", "h2"], gpus, HOSTS, 0.0), list[Any]()
    while words:
        host, word = words.pop(0)
        ask = word["ask"]
        asked.append(ask)
        seen = {"said": said} if ask["do"] == round_steps.LOOK else {}
        words += mine.heard(host, {"round": 1, "do": ask["do"], "done": 1, **seen}, 0.0)
    assert mine.round is not None
    assert (mine.round.is_allowed, mine.round.is_refused) == (is_allowed, not is_allowed)
    told = [ask["gpus"] for ask in asked if ask["do"] in (round_steps.ENTER, round_steps.WRITE)]
    assert told == ([gpus] * (2 + len(HOSTS)) if is_allowed else [])


def test_an_elastic_run_takes_back_no_more_than_the_least() -> None:
    """And from as few runs as suffice for that."""
    mine = Council("a", {**project(2), "preemptible": 0}, [2, 4, 6])
    members: Any = [
        {"project": "team-a", "run": run, "user": "ann", "gpus": 2, "age": age,
         "preemptible": True, "within": False, "waits": False}
        for run, age in (("b", 1.0), ("c", 2.0), ("d", 3.0), ("e", 4.0), ("f", 5.0))
    ]  # fmt: skip
    for host in HOSTS:
        mine.saw(host, {**SAID, "members": members}, 0.0)
    assert mine.learn(0.0) == quotas.Standing(True, None, 10)
    uses = [turns.Use(one["run"], [n]) for n, one in enumerate(members)]
    known = [stands.Stand("h1", turns.Host(range(5), uses), [], [one["run"] for one in members])]
    mine.take_back(known, lambda left: len(left[0].host.free) >= 1)
    assert mine.takes == ["b"]


def test_only_whole_words_are_heard_of_what_a_run_would_have() -> None:
    ask = {"round": 1, "do": round_steps.ENTER, "within": 1, "gpus": 4}
    assert not fault_of({"ask": ask})
    del ask["gpus"]
    assert fault_of({"ask": ask})
