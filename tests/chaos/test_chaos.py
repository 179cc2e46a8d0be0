"""A short `make chaos`: the faults that take seconds, once each, without torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import play as chaos
from support import lab as labs

#: Another one each time. A failing round names it; `make chaos ARGS="--seed N"` plays it again.
SEED = int(os.environ.get("CHAOS_SEED", os.getpid()))
#: Faults that test_full_disks.py and test_detach.py have, too.
ELSEWHERE = {"disk full here", "kill -9 of the follower", "one of two runs stopped"}
SHORT = [name for name, fault in chaos.FAULTS.items() if not fault.slow and name not in ELSEWHERE]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two hosts with fake GPUs, small disks, and nothing else on them."""
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    place = tmp_path_factory.mktemp("chaos")
    with labs.Lab(chaos.SPECS, place, share=chaos.SHARE) as standing:
        yield standing


@pytest.mark.parametrize("fault", SHORT)
def test_nothing_is_lost_left_or_untrue(arena: labs.Lab, tmp_path: Path, fault: str) -> None:
    if reason := chaos.missing(fault):
        pytest.skip(reason)
    outcome = chaos.play(arena, fault, SEED, light=True, scratch=tmp_path / "round")
    assert outcome.wrong == (), f"CHAOS_SEED={SEED}"
