"""Waiting for what events bring about."""

from __future__ import annotations

import asyncio
from pathlib import Path

from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.runner.event_log import EventLog


def test_a_step_that_is_given_up_as_its_event_comes_does_end(tmp_path: Path) -> None:
    """Its event and its cancellation in one turn of the loop: whoever cancels waits for its end."""

    async def waits(ledger: EventLog) -> None:
        while True:
            await ledger.until(lambda: ledger.state.status == "ended", 60.0)

    async def both_at_once() -> bool:
        ledger = EventLog(RunFolder(tmp_path), lambda event: None)
        step = asyncio.ensure_future(waits(ledger))
        for _ in range(5):
            await asyncio.sleep(0)
        ledger.add(ev.StageStarted(1.0, "run"))
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait({step}, timeout=60.0)
        return step.cancelled()

    assert asyncio.run(both_at_once())
