"""Work beside the loop, and its end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from launcher.runner.concurrency import beside, both, in_thread, race


def test_a_thread_is_waited_for_when_its_step_is_given_up() -> None:
    """Meanwhile the loop goes on; without the wait a second one would begin beside it."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(60)
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


class Step:
    """Takes until it is let go; knows whether it was cancelled and has come to rest."""

    def __init__(self) -> None:
        self.go, self.cancelled = asyncio.Event(), False

    async def wait(self) -> None:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # its own clearing up
            self.cancelled = True
            raise


def test_who_loses_a_race_has_come_to_rest_when_it_is_over() -> None:
    async def won() -> tuple[str, bool]:
        slow = Step()

        async def first() -> str:
            return "first"

        async def second() -> str:
            await slow.wait()
            return "second"

        return await race(first(), second()), slow.cancelled

    assert asyncio.run(won()) == ("first", True)


def test_of_two_that_are_done_at_once_the_first_one_wins() -> None:
    async def done(what: str) -> str:
        return what

    assert asyncio.run(race(done("first"), done("second"))) == "first"


def test_an_error_wins_a_race_too() -> None:
    slow = Step()

    async def fails() -> None:
        raise EOFError

    with pytest.raises(EOFError):
        asyncio.run(race(slow.wait(), fails()))
    assert slow.cancelled


def test_what_goes_on_beside_a_block_ends_with_it() -> None:
    slow = Step()

    async def block() -> None:
        async with beside(slow.wait()):
            await asyncio.sleep(0)

    asyncio.run(block())
    assert slow.cancelled


def test_of_two_steps_that_are_both_needed_one_error_ends_the_other() -> None:
    """That one has come to rest by then; without an error both results are there."""

    async def fails() -> int:
        raise ValueError("the first error")

    async def result(value: str) -> str:
        return value

    async def ended() -> bool:
        other = Step()
        with pytest.raises(ValueError, match="the first error"):
            await both(other.wait(), fails())
        return other.cancelled

    assert asyncio.run(ended())
    assert asyncio.run(both(result("one"), result("two"))) == ("one", "two")
