"""Work beside the loop, and its end."""

from __future__ import annotations

import asyncio
import threading

from launcher.runner.concurrency import in_thread


def test_a_thread_is_waited_for_when_its_step_is_given_up() -> None:
    """Meanwhile the loop goes on; without the wait a second one would begin beside it."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)
        ended.set()

    async def given_up() -> bool:
        step = asyncio.ensure_future(in_thread(work))
        while not begun.is_set():  # noqa: ASYNC110 - the event of a thread
            await asyncio.sleep(0.001)
        step.cancel()
        done, _ = await asyncio.wait({step}, timeout=0.05)
        assert not done
        go_on.set()
        await asyncio.wait({step})
        return ended.is_set() and step.cancelled()

    assert asyncio.run(given_up())
