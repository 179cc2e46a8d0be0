"""What the agent and the rest of launcher both know: the agent imports nothing of the rest."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from launcher.agent.base import protocol
from launcher.agent.host import gpu_locks, reachability, tickets
from launcher.agent.supervisor import waiting
from launcher.fleet.findings import pair
from launcher.jobs.gpus import foreign
from launcher.records import state
from launcher.runner.policy import turn
from launcher.spec import gpus as naming
from launcher.spec.model import Facts, Gpu, GpuUser


def test_both_halves_wait_equally_long_for_a_primary_process() -> None:
    assert protocol.PRIMARY_PATIENCE == state.PRIMARY_PATIENCE


def test_both_halves_call_a_silent_port_the_same() -> None:
    assert reachability.SILENT == pair.SILENT


def test_both_halves_know_which_gpus_are_one() -> None:
    assert (gpu_locks.MIG, gpu_locks.MIG_EACH) == (naming.MIG, naming.MIG_EACH)
    indices = (0, 1, 2, 1000, 1001, 1010)
    for one, other in product(indices, repeat=2):
        assert gpu_locks.are_one(one, other) is naming.are_one(one, other), (one, other)


def test_both_halves_let_a_ticket_name_as_many_gpus() -> None:
    assert tickets.MOST_ONLY == turn.MOST_ONLY


#: What no driver takes, and what some process has left.
IDLE, LEFT = 1024, 1025


@pytest.mark.parametrize(
    ("memory", "uses", "leased", "outside"),
    [
        ({0: 0, 1: 0}, [], [], []),
        ({0: 0, 1: 0}, [(0, None)], [], [0]),
        ({0: LEFT}, [(0, "mine")], [], []),
        ({0: LEFT}, [(0, "mine"), (0, None)], [], [0]),
        ({0: IDLE, 1: LEFT}, [], [], [1]),
        ({0: LEFT, 1: LEFT}, [(1, None)], [0, 1], []),
        ({0: 0, 1000: LEFT, 1001: LEFT}, [(1001, None)], [1000], [1001]),
        ({0: LEFT, 1: 0}, [(0, None)], [1003], []),
        ({1000: LEFT, 1010: LEFT}, [], [0], [1010]),
    ],
)
def test_both_halves_know_which_gpus_are_used_outside_launcher(
    memory: dict[int, int],
    uses: list[tuple[int, str | None]],
    leased: list[int],
    outside: list[int],
) -> None:
    listed: Any = [{"index": index, "memory_used": used} for index, used in memory.items()]
    there: Any = [{"gpu": gpu, "run": run} for gpu, run in uses]
    assert waiting.used_outside(listed, there, {index: {} for index in leased}) == outside
    facts = Facts(
        "gpu1",
        "gpu1",
        "/",
        "python3",
        "3.12",
        8,
        gpus=tuple(Gpu(index, memory_used=used) for index, used in memory.items()),
        gpu_users=tuple(GpuUser(gpu, 7, "bob", run=run) for gpu, run in uses),
        leased={index: {} for index in leased},
    )
    assert sorted(foreign(facts)) == outside
