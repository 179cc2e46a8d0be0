"""What a project has, what its quota lets begin, and who gives GPUs back."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.supervisor.projects import council, quotas
from launcher.records.reasons import WaitReason
from launcher.runner.policy import projects
from launcher.runner.policy.projects import Use
from launcher.runner.policy.turn import Stand
from launcher.spec.errors import InputError
from launcher.spec.model import Facts, Gpu, Host, Inventory, Project
from launcher.transport.answers.queue import (
    BookThere,
    Holder,
    MemberThere,
    ProjectsThere,
    Turns,
    WaitingThere,
)

NAMES = ("h1", "h2", "h3", "h4", "h5")
RULE = Project("team-a", quota=6, limit=8, users=("ann", "bob"))


def inventory(*names: str, rules: tuple[Project, ...] = (RULE,), **more: Any) -> Inventory:
    return Inventory(tuple(Host(name, **more) for name in names or NAMES), projects=rules)


def use(run: str, gpus: int, *, project: str = "team-a", age: float = 9.0, **more: Any) -> Use:
    return Use(run, "ann", project, gpus, more.pop("preemptible", False), age, **more)


@pytest.mark.parametrize(
    ("used", "gpus", "preemptible", "within", "why"),
    [
        ([], 6, False, True, None),
        ([use("a", 4)], 2, False, True, None),
        ([use("a", 4)], 3, False, False, WaitReason.QUOTA),
        ([use("a", 4)], 3, True, False, None),
        ([use("a", 4)], 2, True, True, None),
        ([use("a", 6)], 3, True, False, WaitReason.LIMIT),
        ([use("a", 2), use("b", 6, preemptible=True)], 2, False, True, WaitReason.LIMIT),
        ([use("a", 9, project="team-b")], 6, False, True, None),
        ([use("me", 6)], 6, False, True, None),
    ],
)
def test_a_quota_is_for_what_cannot_be_taken_back_and_a_limit_for_all(
    used: list[Use], gpus: int, preemptible: bool, within: bool, why: WaitReason | None
) -> None:
    found = projects.standing(RULE, used, "me", gpus, preemptible)
    assert (found.within, found.why) == (within, why)


def test_only_what_is_beyond_the_quota_is_borrowed_and_the_youngest_gives_first() -> None:
    other = Project("team-b", quota=1, users=("eve",))
    used = [
        use("firm", 4),
        use("old", 2, preemptible=True, age=90.0),
        use("young", 1, preemptible=True, age=5.0),
        use("middle", 1, preemptible=True, age=50.0),
        use("theirs", 1, project="team-b", preemptible=True, age=1.0),
    ]
    assert [one.run for one in projects.borrowing((RULE, other), used)] == ["young", "middle"]


def said(members: tuple[MemberThere, ...] = (), books: tuple[BookThere, ...] = ()) -> ProjectsThere:
    return ProjectsThere(members, books, "ann")


def test_what_strangers_say_counts_for_nothing_and_a_silent_host_for_its_run() -> None:
    deciding = projects.voters(inventory())
    books = (
        BookThere("team-a", "lives", "ann", 2, ("h2",)),
        BookThere("team-a", "over", "bob", 3, ("h1",)),
        BookThere("team-a", "silent", "bob", 1, ("h1", "h5")),
        BookThere("team-a", "gone", "bob", 1, ("h9",)),
        BookThere("team-a", "forged", "mallory", 4, ("h2",)),
    )
    members = (
        MemberThere("team-a", "lives", "ann", 2),
        MemberThere("team-a", "waiting", "ann", 2, waits=True),
        MemberThere("team-a", "forged", "mallory", 4),
    )
    there = {"h1": said(books=books), "h2": said(members), "h3": said(books=books)}
    found = {one.run: one.gpus for one in projects.uses((RULE,), there, deciding)}
    assert found == {"lives": 2, "silent": 1}


def test_only_runs_of_the_project_that_is_locked_are_known_to_be_over() -> None:
    """One of another project may be about to begin: its book is written before anything shows it."""
    books = (
        BookThere("team-a", "over", "ann", 3, ("h1",)),
        BookThere("team-b", "begins", "ann", 3, ("h1",)),
    )
    there = {"h1": said(books=books)}
    deciding = projects.voters(inventory())
    assert projects.over(there["h1"], there, deciding, "team-a") == ("over",)


def history(seed: int) -> list[tuple[str, int, int, bool, tuple[str, ...], tuple[str, ...]]]:
    """Steps: what happens, to which run, with how many GPUs, preemptible or not, on which hosts, and
    which hosts can be reached."""
    dice = random.Random(seed)
    return [
        (
            dice.choice(["begin", "begin", "begin", "end", "reboot"]),
            dice.randrange(60),
            dice.choice([1, 2, 2, 4]),
            dice.random() < 0.5,
            tuple(dice.sample(NAMES, dice.randint(1, 2))),
            tuple(dice.sample(NAMES, dice.randint(0, 5))),
        )
        for _ in range(80)
    ]


@pytest.mark.thorough
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 30))
def test_no_project_has_more_than_it_may_whoever_can_be_reached(seed: int) -> None:
    """Quota 6 and limit 8 over 5 hosts, 60 runs. Ends and power cuts reach some books only."""
    deciding = projects.voters(inventory())
    books: dict[str, dict[str, BookThere]] = {name: {} for name in NAMES}
    alive: dict[str, tuple[int, bool, tuple[str, ...]]] = {}
    for what, number, gpus, preemptible, homes, reached in history(seed):
        run = f"run-{number}"
        if what == "end" and run in alive:
            del alive[run]
            for name in reached:
                books[name].pop(run, None)
        elif what == "reboot":  # all runs with a process there are over; its books are on its disk
            alive = {k: one for k, one in alive.items() if homes[0] not in one[2]}
        elif what == "begin" and run not in alive and len(reached) >= projects.majority(deciding):
            shown = {
                name: tuple(
                    MemberThere("team-a", other, "ann", count, preemptible=soft)
                    for other, (count, soft, hosts) in alive.items()
                    if name in hosts
                )
                for name in reached
            }
            there = {name: said(shown[name], tuple(books[name].values())) for name in reached}
            used = projects.uses((RULE,), there, deciding)
            if projects.standing(RULE, used, run, gpus, preemptible).why is None:
                alive[run] = (gpus, preemptible, homes)
                for name in reached:
                    books[name][run] = BookThere("team-a", run, "ann", gpus, homes, preemptible)
        assert sum(count for count, _, _ in alive.values()) <= 8
        assert sum(count for count, soft, _ in alive.values() if not soft) <= 6


def stand(leased: dict[int, str], *waiting: WaitingThere) -> Stand:
    facts = Facts("h1", "h1", "/r", "p", "3.11", 4, gpus=tuple(map(Gpu, range(4))))
    held = {gpu: Holder("eve", run) for gpu, run in leased.items()}
    return Stand(Host("h1"), facts, Turns(waiting, held))


def test_a_run_takes_back_as_few_and_as_young_runs_as_suffice() -> None:
    me = WaitingThere("me", 0, 1, 1, ((1, 2),), within=True)
    there = stand({0: "old", 1: "young", 2: "big", 3: "big"}, me)
    borrowed = [use("young", 1, age=1.0), use("big", 2, age=5.0), use("old", 1, age=90.0)]
    assert projects.to_take_back([there], "me", ["h1"], borrowed) == ("big",)
    assert projects.to_take_back([there], "me", ["h1"], borrowed[:1]) == ()
    assert projects.to_take_back([there], "me", ["h1"], [use("elsewhere", 4)]) == ()


def test_a_team_takes_from_itself_what_would_be_beyond_its_limit() -> None:
    used = [use("a", 4), use("b", 2, preemptible=True), use("c", 2, preemptible=True, age=1.0)]
    borrowed = projects.borrowing((RULE,), used)
    assert projects.enough_for_limit(RULE, used, "me", 2, borrowed) == ("c",)
    assert projects.enough_for_limit(RULE, used, "me", 4, borrowed) == ()


def test_hosts_that_share_a_machine_decide_once_and_one_that_is_off_counts() -> None:
    shared = inventory("h1", "h2", address="10.0.0.1", shares_machine=True)
    assert projects.voters(shared) == {"h1": "h1", "h2": "h1"}
    assert projects.majority(projects.voters(inventory(off="power"))) == 3
    assert [projects.majority(projects.voters(inventory(*NAMES[:n]))) for n in (1, 2, 3, 4)] == [
        1, 2, 2, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "preemptible", "text"),
    [(9, True, "may ever have: its limit is 8"), (7, False, "the quota of project team-a")],
)
def test_what_can_never_begin_is_refused(gpus: int, preemptible: bool, text: str) -> None:
    with pytest.raises(InputError, match=text):
        projects.require_fit(RULE, gpus, preemptible)
    projects.require_fit(RULE, 6, False)


def test_a_project_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no such project") as found:
        projects.rule_of(inventory(), "tema-a")
    assert "team-a" in found.value.hint
    with pytest.raises(InputError, match="has no projects"):
        projects.rule_of(inventory(rules=()), "team-a")
    with pytest.raises(InputError, match="mallory on h1 may not use project team-a"):
        projects.require_user(RULE, "mallory", "h1")


_USERS = st.sampled_from(["ann", "bob", "eve"])
_RUNS = st.sampled_from(["r1", "r2", "r3", "r4"])
_PROJECTS = st.sampled_from(["team-a", "team-b"])
_MEMBERS = st.builds(
    MemberThere,
    project=_PROJECTS,
    run=_RUNS,
    user=_USERS,
    gpus=st.integers(1, 6),
    age=st.integers(0, 9).map(float),
    preemptible=st.booleans(),
    within=st.booleans(),
    waits=st.booleans(),
)
_BOOKS = st.builds(
    BookThere,
    project=_PROJECTS,
    run=_RUNS,
    user=_USERS,
    gpus=st.integers(1, 6),
    hosts=st.lists(st.sampled_from([*NAMES, "h9"]), min_size=1, max_size=3).map(tuple),
    preemptible=st.booleans(),
)
_SAID = st.builds(
    ProjectsThere,
    members=st.lists(_MEMBERS, max_size=4).map(tuple),
    books=st.lists(_BOOKS, max_size=4).map(tuple),
    user=_USERS,
)


def word_of(there: ProjectsThere) -> Any:
    """Return the same as hosts say it to each other."""
    books = [{**vars(one), "hosts": [*one.hosts]} for one in there.books]
    return {"members": [vars(one) for one in there.members], "books": books, "user": there.user}


@pytest.mark.thorough
@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(NAMES), _SAID),
    st.integers(0, 8),
    st.one_of(st.none(), st.integers(0, 9)),
    st.integers(1, 6),
    st.booleans(),
)
def test_a_launcher_and_a_host_decide_alike(
    said: dict[str, ProjectsThere], quota: int, limit: int | None, gpus: int, soft: bool
) -> None:
    other = Project("team-b", quota=1, users=("eve",))
    rules = (Project("team-a", quota=quota, limit=limit, users=("ann", "bob")), other)
    deciding = projects.voters(inventory(rules=rules))
    used = projects.uses(rules, said, deciding)
    mine = projects.standing(rules[0], used, "r1", gpus, soft)
    request: Any = {
        "name": "team-a",
        "gpus": gpus,
        "preemptible": int(soft),
        "voters": deciding,
        "rules": {
            one.name: {"quota": one.quota, "limit": one.limit, "users": [*one.users]}
            for one in rules
        },
    }
    theirs = council.Council("r1", request)
    for host, there in said.items():
        theirs.saw(host, word_of(there), 0.0)
    found = theirs.learn(0.0)
    if not projects.suffice(said, deciding):
        assert found.why == quotas.NO_MAJORITY
        return
    assert (found.within, found.why, found.used) == (mine.within, mine.why, mine.used)
    assert theirs.uses == list(used)
    assert quotas.borrowing(theirs.rules, theirs.uses) == list(projects.borrowing(rules, used))
