"""What the exit of a process means on its host, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.base import protocol
from launcher.agent.supervisor.outcomes import Outcomes
from launcher.records import events as ev
from launcher.records.state import fold

PRIMARY = {"key": "chief-0", "primary": 2, "primaries": 2, "on_exit": {}}
SECOND = {**PRIMARY, "key": "chief-1"}
WORKER = {
    "key": "worker-0",
    "primary": 0,
    "primaries": 2,
    "on_exit": {"complete": [(3, 3)], "fail": [(4, 9)], "restart": [(137, 137)]},
}
PLAIN = {"key": "rank-0"}


@pytest.mark.parametrize(
    ("process", "code", "failed", "told", "patience"),
    [
        (PLAIN, 0, False, {}, 0.0),
        (PLAIN, 1, True, {}, 0.0),
        (PLAIN, -9, True, {}, 0.0),
        (PRIMARY, 0, False, {}, 0.0),
        (PRIMARY, 5, True, {}, 0.0),
        (WORKER, 0, False, {}, protocol.PRIMARY_PATIENCE),
        (WORKER, 1, True, {}, protocol.PRIMARY_PATIENCE),
        (WORKER, 3, False, {"action": "complete"}, protocol.PRIMARY_PATIENCE),
        (WORKER, 4, True, {"action": "fail"}, protocol.PRIMARY_PATIENCE),
        (WORKER, -9, True, {"action": "restart"}, protocol.PRIMARY_PATIENCE),
    ],
)
def test_what_an_exit_means_on_its_host(
    process: dict[str, Any], code: int, failed: bool, told: dict[str, str], patience: float
) -> None:
    """And here: both sides read an exit, and wait for a primary process, in the same manner."""
    outcomes, key = Outcomes([process]), process["key"]
    assert outcomes.exited(key, code) == (failed, told)
    assert outcomes.patience(key) == patience
    begun = ev.ProcessStarted(
        0.0,
        "gpu1",
        0,
        key,
        0,
        7,
        primary=process.get("primary", 0),
        primaries=process.get("primaries", 0),
    )
    state = fold([begun, ev.ProcessExited(5.0, "gpu1", 0, key, 0, code, **told)])
    assert (state.failure is not None) == failed
    failure = ev.Failure("gpu1", key, 0, code, False, 5.0)
    assert state.counts_from(failure) - 5.0 == patience


@pytest.mark.parametrize(
    ("ends", "over"),
    [
        ([], False),
        ([("chief-0", 0)], False),
        ([("chief-0", 0), ("chief-1", 0)], True),
        ([("chief-0", 0), ("elsewhere", 0)], True),
        ([("chief-0", 1), ("chief-1", 0)], False),
        ([("worker-0", 0), ("chief-0", 0)], False),
    ],
)
def test_when_a_run_is_over_for_a_host(ends: list[tuple[str, int]], over: bool) -> None:
    outcomes = Outcomes([PRIMARY, SECOND, WORKER])
    for key, code in ends:
        if key == "elsewhere":
            outcomes.succeeded_elsewhere("chief-1")
        else:
            outcomes.exited(key, code)
    assert outcomes.over is over
