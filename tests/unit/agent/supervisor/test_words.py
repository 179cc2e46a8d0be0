"""What hosts that wait together hear of each other: only what fits."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.supervisor.gang_words import fault_of

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
