"""Whose turn it is, from what hosts say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.agent.supervisor import turns
from launcher.jobs.gpus import with_foreign_held
from launcher.records.reasons import WaitReason
from launcher.runner.policy import turn
from launcher.runner.policy.turn import Begin, Stand, Wait
from launcher.spec.model import Facts, Gpu, GpuUser, Host, Job, Resources
from launcher.transport.answers.queue import Holder, Turns, WaitingThere
from support.jobs import job_of

EIGHT = Job(run=("x",), framework="env", resources=Resources(gpus=8))


def ticket(run: str, number: int, *shares: int, hosts: int = 2, **more: Any) -> WaitingThere:
    pairs = tuple((1, share) for share in shares)
    return WaitingThere(run, more.pop("priority", 0), number, hosts, pairs, **more)


def stand(name: str, *tickets: WaitingThere, leased: Any = None, **facts: Any) -> Stand:
    gpus = facts.pop("gpus", tuple(Gpu(index) for index in range(4)))
    known = Facts(name, name, "/r", "python3", "3.11", 8, gpus=gpus, **facts)
    return Stand(Host(name), known, Turns(tickets, leased or {}))


def decide(*stands: Stand, run: str = "mine") -> Begin | Wait | None:
    return turn.of_run(turn.decide(stands, run, [one.host.name for one in stands]), run)


def test_codes_are_those_of_the_deciding_function() -> None:
    ours = (
        *(WaitReason.NOT_YET, WaitReason.QUOTA, WaitReason.LIMIT, WaitReason.NO_MAJORITY),
        *(
            WaitReason.TAKING_BACK,
            WaitReason.NO_LEADER,
            WaitReason.MAY_HAVE_BEGUN,
            WaitReason.NO_ROOM,
        ),
    )
    names = {n: r for n, r in WaitReason.__members__.items() if r not in ours}
    assert {name: getattr(turns, name) for name in names} == {n: r.value for n, r in names.items()}


def test_a_run_begins_on_all_its_hosts_or_waits_for_who_is_there() -> None:
    mine = ticket("mine", 5, 4, 4)
    assert decide(stand("a", mine), stand("b", mine)) == Begin(
        "mine", {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}
    )
    held = {0: Holder("ann", "calm-otter", left=60.0)}
    found = decide(stand("a", mine), stand("b", mine, leased=held))
    assert isinstance(found, Wait)
    assert (found.runs, found.seconds) == (("calm-otter",), 60.0)
    assert turn.reason(found, ["mine"]) is WaitReason.BUSY
    assert turn.users([stand("a", mine, leased=held)])["calm-otter"] == "ann"


def test_what_an_earlier_run_may_need_is_kept_though_its_other_hosts_are_not_seen() -> None:
    """Unless it says itself that it can begin nowhere."""
    mine, gang = ticket("mine", 5, 2, hosts=1), ticket("gang", 1, 4, 4)
    found = decide(stand("a", mine, gang))
    assert isinstance(found, Wait)
    assert found.runs == ("gang",)
    assert turn.reason(found, ["mine", "gang"]) is WaitReason.BEHIND, "it holds nothing yet"
    aside = ticket("gang", 1, 4, 4, aside=True)
    assert isinstance(decide(stand("a", mine, aside)), Begin)


def test_one_whose_hosts_are_out_of_sight_knows_it() -> None:
    mine = ticket("mine", 5, 4, 4)
    found = turn.of_run(turn.decide([stand("a", mine)], "mine", ["a", "b"]), "mine")
    assert isinstance(found, Wait)
    assert (found.why, found.hosts) == ("hosts-missing", ("b",))


def test_a_ticket_that_is_there_twice_counts_once() -> None:
    """A relay that nobody reaches holds an old one for a while."""
    found = turn.decide([stand("a", ticket("x", 9, 1, hosts=1), ticket("x", 2, 1, hosts=1))])
    assert len(found) == 1


def test_the_ticket_of_a_run_counts_where_it_holds_no_gpus() -> None:
    """It may start again: then it is before those that came later."""
    mine, other = ticket("mine", 5, 2, hosts=1), ticket("other", 1, 4, 4)
    there = {index: Holder("ann", "other") for index in range(4)}
    stands = [stand("a", other, leased=there), stand("b", mine, other)]
    assert turn.waiting(stands)["other"].keys() == {"b"}
    assert isinstance(decide(*stands), Wait)
    assert "other" not in turn.waiting([stand("a", other, leased=there)])


def test_gpus_that_others_work_on_are_taken_last() -> None:
    uses = (GpuUser(gpu=0, pid=7, user="bob"),)
    found = decide(stand("a", ticket("mine", 5, 3, hosts=1), gpu_users=uses))
    assert found == Begin("mine", {"a": [1, 2, 3]})
    found = decide(stand("a", ticket("mine", 5, 4, hosts=1), gpu_users=uses))
    assert found == Begin("mine", {"a": [1, 2, 3, 0]})


def test_a_run_waits_for_programs_outside_launcher_and_says_which() -> None:
    uses = (GpuUser(gpu=0, pid=7, user="bob", command="train"),)
    one = stand("a", ticket("mine", 5, 4, hosts=1), gpu_users=uses)
    one = replace(one, facts=with_foreign_held(one.facts))
    found = decide(one)
    assert isinstance(found, Wait)
    assert (found.why, found.runs) == ("busy", ("",))
    assert turn.users([one])[""] == "bob"
    assert turn.outside([one]) == "a GPU 0 by bob (pid 7 train)"
    fits = stand("a", ticket("mine", 5, 3, hosts=1), gpu_users=uses)
    assert decide(replace(fits, facts=with_foreign_held(fits.facts))) == Begin(
        "mine", {"a": [1, 2, 3]}
    )
    many = [replace(one, host=Host(f"h{n}")) for n in range(9)]
    assert turn.outside(many).endswith(", and 6 more")


def test_the_layout_has_what_the_turn_gives() -> None:
    stands = [stand("a"), stand("b"), stand("c")]
    assert turn.shares(EIGHT, [s.host for s in stands], {s.host.name: s.facts for s in stands}) == (
        4, 4,
    )  # fmt: skip
    begin = Begin("mine", {"b": [0, 1, 2, 3], "c": [3, 2, 1, 0]})
    made = turn.layout(EIGHT, stands, begin, "mine")
    assert {node.host.name: node.gpus for node in made.nodes} == {
        "b": (0, 1, 2, 3), "c": (0, 1, 2, 3),
    }  # fmt: skip


ROLES = """
framework: env
roles:
  actor: {replicas: 2, resources: {gpus: 1}, run: python actor.py}
  learner: {resources: {gpus: 2}, run: python learner.py}
"""


def test_a_run_that_may_choose_has_a_layout_on_each_choice() -> None:
    stands = [stand(name) for name in "abc"]
    found = turn.layout_of_any(EIGHT, stands, [4, 4], "mine")
    assert found is not None
    assert ([node.host.name for node in found.nodes], found.wanted) == (["a", "b", "c"], 2)
    assert (found.num_nodes, found.world_size, turn.shares_of(found)) == (2, 8, (4, 4))
    for names in ("ab", "ac", "bc"):
        mine = {name: [0, 1, 2, 3] for name in names}
        some = [one for one in stands if one.host.name in names]
        assert found.of(names) == turn.layout(EIGHT, some, Begin("mine", mine), "mine")


@pytest.mark.parametrize(
    ("sizes", "ways"),
    [
        ({"a": 4, "b": 2, "c": 2}, [{"a": 4, "b": 2}, {"a": 4, "c": 2}]),
        ({"a": 4, "b": 4}, [{"a": 4, "b": 2}, {"a": 2, "b": 4}]),
        ({"a": 2, "b": 4, "c": 1}, [{"a": 2, "b": 4}]),
    ],
    ids=["a choice", "either way", "one way"],
)
def test_unequal_parts_go_to_any_hosts_that_have_room(
    sizes: dict[str, int], ways: list[dict[str, int]]
) -> None:
    stands = [stand(name, gpus=tuple(map(Gpu, range(size)))) for name, size in sizes.items()]
    job = replace(EIGHT, resources=Resources(gpus=6))
    found = turn.layout_of_any_unequal(job, stands, [2, 4], "mine")
    assert found is not None
    assert (found.num_nodes, found.world_size, turn.shares_of(found)) == (2, 6, (4, 2))
    layouts = list(turn.layouts_of(found))
    parts = [{node.host.name: len(node.gpus) for node in one.nodes} for one in layouts]
    assert parts == ways
    for one, mine in zip(layouts, ways, strict=True):
        some = [there for there in stands if there.host.name in mine]
        gpus = {name: list(range(count)) for name, count in mine.items()}
        assert one == turn.layout(job, some, Begin("mine", gpus), "mine")


def test_a_run_that_would_be_another_elsewhere_has_no_such_layout() -> None:
    """Ranks are as many as GPUs; without a number of these they would be one on a host."""
    mixed = [stand("a"), stand("b", gpus=tuple(Gpu(index) for index in range(2)))]
    job = replace(EIGHT, resources=Resources(gpus=2, nproc_per_node=2))
    found = turn.layout_of_any(job, mixed, [2], "mine")
    assert found is not None
    assert [node.local_world_size for node in found.nodes] == [2, 2]


def test_processes_of_roles_move_to_other_gpus_with_their_tasks() -> None:
    large = stand("a", gpus=tuple(Gpu(index) for index in range(8)))
    made = turn.idle_layout(job_of(ROLES), [large.host], {"a": large.facts}, "mine")
    (node,) = turn.with_gpus(made, {"a": large.facts}, {"a": [3, 5, 6, 7, 4]}).nodes
    assert node.gpus == (3, 5, 6, 7) == tuple(gpu for task in node.tasks for gpu in task.gpus)
    assert {task.key: len(task.gpus) for task in node.tasks} == {
        "actor-0": 1, "actor-1": 1, "learner-0": 2,
    }  # fmt: skip


def test_a_run_that_cannot_move_waits_for_what_its_layout_needs_of_each_host() -> None:
    two = [stand("a"), stand("b", gpus=tuple(Gpu(index) for index in range(8)))]
    made = turn.layout(EIGHT, two, Begin("mine", {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]}), "mine")
    assert turn.shares_of(made) == (4, 4)
    assert turn.parts_of(made) == {}
    (first, *others) = made.nodes
    uneven = replace(made, nodes=(replace(first, gpus=(0,), gpu_names=("0",)), *others))
    assert turn.shares_of(uneven) == (4, 1)
    assert turn.parts_of(uneven) == {"a": 1, "b": 4}, "never the other way"
    assert turn.fits(uneven, {"a": [3], "b": [0, 1, 2, 3]})
    assert not turn.fits(uneven, {"a": [0, 1, 2, 3], "b": [7]})


def test_the_host_of_a_run_gives_it_as_many_gpus_as_it_asked_for() -> None:
    two = Job(run=("x",), framework="env", resources=Resources(gpus=2))
    held = {0: Holder("ann", "calm-otter")}
    (node,) = turn.provisional(two, stand("a", leased=held), (2,), "mine").nodes
    assert len(node.gpus) == 2, "which ones, it decides when their turn has come"


@pytest.mark.parametrize(
    ("resources", "waits"),
    [(Resources(gpus=8), True), (Resources(), True), (Resources(gpus=0), False),
     (Resources(gpu_ids=("1",)), True)],
)  # fmt: skip
def test_who_can_wait(resources: Resources, waits: bool) -> None:
    assert turn.can_wait(Job(run=("x",), resources=resources)) is waits


def test_roles_wait_if_they_want_gpus() -> None:
    assert turn.can_wait(job_of(ROLES))
    assert not turn.can_wait(job_of("framework: env\nroles: {a: {run: x}}"))
