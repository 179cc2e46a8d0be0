"""A relay's place in the queue: held while somebody renews it, and told what changes."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.host import gpu_locks, lookout, socket_names, tickets
from launcher.agent.relay import turn

TICKET = {"number": 7, "hosts": 1, "shares": [1]}


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[turn.Turn]:
    """A place, among sockets that no other test has."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    made = turn.Turn()
    yield made
    made.close()


def ask(held: turn.Turn, number: int, wait: float = 0.0, ticket: Any = TICKET) -> Any:
    return held.ask({"id": number, "run": "mine", "wait": wait, "ticket": ticket})


def ready(held: turn.Turn) -> list[Any]:
    return select.select(held.readable, [], [], 10)[0]


def test_an_answer_comes_at_once_or_when_something_has_ended(held: turn.Turn) -> None:
    lock = gpu_locks.take([0], "theirs")
    assert ask(held, 1) == []
    ((number, stand),) = held.answers([])
    assert number == 1
    assert [one["run"] for one in stand["tickets"]] == ["mine"]
    assert stand["leased"]["0"]["run"] == "theirs"
    ask(held, 2, wait=10)
    assert held.answers([]) == [], "nothing is new"
    for one in lock:
        one.close()
    ((number, stand),) = held.answers(ready(held))
    assert (number, stand["leased"]) == (2, {})


def test_what_begins_is_seen_at_the_next_look(
    held: turn.Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(held, 1)
    held.answers([])
    monkeypatch.setattr(lookout, "LOOK", 0.0)
    ask(held, 2, wait=10)
    assert held.answers([]) == []
    with tickets.enter("other", TICKET):
        ((number, stand),) = held.answers([])
    assert (number, len(stand["tickets"])) == (2, 2)


def test_a_new_request_ends_the_wait_of_an_earlier_one(held: turn.Turn) -> None:
    ask(held, 1, wait=10)
    ((number, _),) = ask(held, 2)
    assert number == 1
    assert [number for number, _ in held.answers([])] == [2]


def test_a_changed_ticket_takes_the_place_of_the_old_one(held: turn.Turn) -> None:
    ask(held, 1)
    ask(held, 2, ticket={**TICKET, "priority": 1})
    assert [one["priority"] for one in tickets.read(tickets.names())] == [1]
    ask(held, 3, ticket=None)
    assert tickets.names() == {}


def test_a_ticket_that_nobody_renews_is_let_go(
    held: turn.Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could start its run: its launcher stands still, or its machine is gone."""
    ask(held, 1)
    held.answers([])
    assert held.patience() <= turn.FORSAKEN
    held.expire()
    assert len(tickets.names()) == 1
    monkeypatch.setattr(turn, "FORSAKEN", -1.0)
    held.expire()
    assert tickets.names() == {}
    ask(held, 2)
    assert len(tickets.names()) == 1, "it is back"


def test_an_odd_socket_of_another_user_hides_no_end(held: turn.Turn) -> None:
    """It has a name and does not listen."""

    lock = gpu_locks.take([0], "theirs")
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(socket_names.prefix() + b"wait/aaa/n.1.1.0.1.1x1")
        ask(held, 1)
        held.answers([])
        ask(held, 2, wait=10)
        for one in lock:
            one.close()
        assert held.answers(ready(held))
