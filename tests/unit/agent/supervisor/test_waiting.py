"""A run that waits on its host: whose turn it is there, and what is started then."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.host import gpu_locks, gpu_users, gpus, lookout, tickets
from launcher.agent.supervisor import waiting
from launcher.agent.supervisor.waiting import Waiting, stand_of

TICKET: Any = {"number": 7, "hosts": 1, "shares": [2], "by_itself": True}
START: Any = {
    "stage": "run",
    "attempt": 0,
    "path": [],
    "port": 777001,
    "processes": [
        {"key": "node-0", "argv": ["x", "--port=777001"], "cwd": "/",
         "env": {"CUDA_VISIBLE_DEVICES": "gpu-a,gpu-b", "SLURM": "555001,555002"}},
    ],
}  # fmt: skip
TOKENS = {"gpus": ["555001", "555002"], "names": ["gpu-a", "gpu-b"], "ports": ["777001"]}

Begin = Callable[..., Waiting]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Begin to wait, among sockets that no other test has and without strangers on GPUs."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    monkeypatch.setattr(waiting, "strangers", lambda leased: [])
    made: list[Waiting] = []

    def wait(ticket: Any = TICKET, **more: Any) -> Waiting:
        request: Any = {
            "ticket": ticket, "gpus": [0, 1, 2, 3], "names": {"2": "MIG-2"}, "start": START,
            "tokens": TOKENS, "ports": [20000, 32000], **more,
        }  # fmt: skip
        made.append(Waiting("mine", request, 0.0))
        return made[-1]

    yield wait
    for one in made:
        one.close()


def release(locks: list[Any]) -> None:
    for one in locks:
        one.close()


def test_it_is_told_at_once_when_gpus_are_free(begin: Begin) -> None:
    locks = gpu_locks.take([0, 1, 2], "theirs")
    one = begin()
    assert one.turn(0.0) == []
    assert one.turn(0.1) == [], "it looks now and then"
    assert one.next_look == lookout.LOOK
    release(locks)
    one.heard(select.select(one.readable, [], [], 10)[0], 0.2)
    assert one.turn(0.2) == [0, 1]


def test_it_waits_behind_an_earlier_run_and_not_behind_a_later_one(begin: Begin) -> None:
    with tickets.enter("later", {**TICKET, "number": 8, "shares": [4]}):
        assert begin().turn(0.0) == [0, 1]
    with tickets.enter("first", {**TICKET, "number": 6, "shares": [4]}):
        one = begin()
        assert one.turn(0.0) == []
        one.move({**TICKET, "priority": 1}, 1.0)
        assert one.turn(1.0) == [0, 1], "it was moved"
        mine = [ticket for ticket in tickets.read(tickets.names()) if ticket["run"] == "mine"]
        assert {ticket["priority"] for ticket in mine} == {0, 1}, (
            "that of the first one, and its own"
        )


def test_gpus_that_are_used_outside_launcher_are_not_free(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [0, 1, 2]
    monkeypatch.setattr(waiting, "strangers", lambda leased: there)
    assert begin(ignore_foreign=True).turn(0.0) == [3, 0], "they are given last"
    one = begin()
    assert one.turn(0.0) == []
    there = [0]
    assert one.turn(waiting.KNOWN) == [], "they are not listed all the time"
    assert one.turn(waiting.KNOWN + lookout.LOOK) == [1, 2]


def test_who_works_outside_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of nobody's run, and memory without a process, where no run holds the GPU."""
    uses = [{"gpu": 0, "run": None}, {"gpu": 1, "run": "mine"}, {"gpu": 2, "run": None}]
    listed = [{"index": index, "memory_used": 2000 * (index > 2)} for index in range(5)]
    monkeypatch.setattr(gpu_users, "ask", lambda: None)
    monkeypatch.setattr(gpu_users, "users", lambda listed, asked: uses)
    monkeypatch.setattr(gpus, "listed", lambda: listed)
    assert waiting.strangers({2: {}, 4: {}}) == [0, 3]


def test_it_starts_on_the_gpus_that_it_got(begin: Begin) -> None:
    started: Any = begin().start([2, 3])
    port = started["port"]
    assert 20000 <= port <= 32000
    assert (started["gpus"], started["ports"]) == ([2, 3], [])
    assert started["processes"][0]["argv"] == ["x", f"--port={port}"]
    assert started["processes"][0]["env"] == {"CUDA_VISIBLE_DEVICES": "MIG-2,3", "SLURM": "2,3"}
    assert START["port"] == 777001, "it may be filled in again"


def test_it_waits_no_longer_than_its_user_wants(begin: Begin) -> None:
    one = begin({**TICKET, "waited": 5.0}, seconds=60.0)
    assert not one.is_over(59.0)
    assert one.is_over(60.0)
    assert one.waited(10.0) == 15.0
    assert not begin().is_over(1e9)


def test_an_instance_is_not_free_while_its_gpu_is_used() -> None:
    part = gpu_locks.MIG + 1
    stand = stand_of([part, part + 1], {0: {"run": "theirs", "left": 5.0}}, [])
    assert [(use.gpus, use.seconds) for use in stand.host.uses] == [
        (frozenset((part, part + 1)), 5.0)
    ]
    stand = stand_of([part, part + 1], {part: {"run": "theirs"}}, [])
    assert [use.gpus for use in stand.host.uses] == [frozenset((part,))]
    assert stand.running == {"theirs"}
