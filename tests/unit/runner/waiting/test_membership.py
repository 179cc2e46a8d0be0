"""A run's part in its project: what is done while others wait for the locks takes no longer than they
do."""

from __future__ import annotations

import asyncio

import pytest

from launcher.records.reasons import WaitReason
from launcher.runner.waiting import membership


def test_a_host_out_of_reach_does_not_keep_the_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "SHOWN", 0.05)

    async def joins() -> None:
        pass

    async def is_out_of_reach() -> None:
        await asyncio.Event().wait()

    with pytest.raises(membership.HeldBack) as held:
        asyncio.run(membership.shown({"gpu1": joins(), "gpu2": is_out_of_reach()}))
    assert (held.value.standing.why, held.value.standing.silent) == (
        WaitReason.NO_MAJORITY,
        ("gpu2",),
    )
    asyncio.run(membership.shown({"gpu1": joins()}))
