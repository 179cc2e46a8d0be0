"""What hosts that wait together hear of each other: only what fits."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.supervisor.gang.words import fault_of

TICKET: dict[str, Any] = {
    "run": "calm-hare", "priority": 0, "number": 3, "hosts": 2, "shares": [[1, 3], [1, 2]],
    "seconds": None, "only": [], "aside": False, "within": False, "part": 3, "user": "ann",
}  # fmt: skip


def stand(**more: Any) -> dict[str, Any]:
    return {"stand": {"tickets": [{**TICKET, **more}], "leased": {}, "outside": []}}


def test_a_stand_is_heard() -> None:
    assert fault_of(stand()) == ""
    assert fault_of(stand(part=None)) == "", "of an earlier version"


@pytest.mark.parametrize(
    "nonsense", [{"part": "3"}, {"part": [3]}, {"part": -1}, {"part": 1 << 20}, {"within": "yes"}]
)
def test_nonsense_of_a_ticket_is_not_heard(nonsense: dict[str, Any]) -> None:
    assert fault_of(stand(**nonsense))


MEMBER: dict[str, Any] = {
    "project": "team-a", "run": "calm-hare", "user": "ann", "gpus": 2, "age": 1.5,
    "preemptible": False, "within": True, "waits": False, "held": "",
}  # fmt: skip
SAID: dict[str, Any] = {"members": [MEMBER], "books": [], "user": "ann"}
LOCK: dict[str, Any] = {"round": 1, "do": "lock", "project": "team-a", "users": ["ann"]}


@pytest.mark.parametrize(
    "word",
    [
        {"said": SAID},
        {"said": {}},
        {"ask": LOCK},
        {"answer": {"round": 1, "do": "look", "done": 1, "said": SAID}},
        {"standing": {"within": 1, "held": "", "takes": ["r1"]}},
    ],
)
def test_what_is_said_of_projects_is_heard(word: dict[str, Any]) -> None:
    assert fault_of(word) == ""


@pytest.mark.parametrize(
    "word",
    [
        {"said": {"members": [MEMBER]}},
        {"said": {**SAID, "members": [{**MEMBER, "gpus": "2"}]}},
        {"said": {**SAID, "books": [{"project": "team-a"}]}},
        {"ask": {**LOCK, "users": None}},
        {"ask": {"round": 1, "do": "write", "project": "team-a", "gpus": 1}},
        {"ask": {"round": 1, "do": "tidy"}},
        {"answer": {"round": 1, "do": "look"}},
        {"answer": {"round": 1, "do": "look", "done": 1, "said": {"user": "ann"}}},
        {"standing": {"within": 1, "held": "", "takes": [1]}},
    ],
)
def test_nonsense_of_projects_is_not_heard(word: dict[str, Any]) -> None:
    assert fault_of(word)
