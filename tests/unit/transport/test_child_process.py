"""What runs beside the event loop is signalled, waited for and cancelled without a word on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from launcher.transport.child_process import ChildProcess

#: As rsync: a process with a child that holds its pipes, and does not end by itself. Nobody else
#: sleeps that long.
LONG = f"79{os.getpid()}"
WITH_A_BRIDGE = ("sh", "-c", f"sleep {LONG} & wait")


@pytest.mark.parametrize("steps", range(8))
def test_cancelling_at_any_step_of_the_start(steps: int) -> None:
    """Once, and again while that is under way: it ends at once, and its child with it."""

    async def cancelled() -> None:
        starting = asyncio.ensure_future(
            ChildProcess.start(WITH_A_BRIDGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        async with asyncio.timeout(20):
            with contextlib.suppress(asyncio.CancelledError):
                await (await asyncio.shield(starting)).end(signal.SIGKILL)  # it was faster

    asyncio.run(cancelled())
    deadline = time.monotonic() + 60
    while _of_the_bridge():  # the kernel has yet to end what was killed
        assert time.monotonic() < deadline


def _of_the_bridge() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ends while we look
            found.append(path.read_bytes())
    return [command for command in found if LONG.encode() in command]


def test_a_signal_for_a_process_that_has_just_exited(caplog: pytest.LogCaptureFixture) -> None:
    """Its exit code stays its own, at any moment."""

    async def codes() -> list[int]:
        found = []
        for _ in range(50):
            process = await ChildProcess.start(["sh", "-c", "exit 7"])
            assert process.stderr
            await process.stderr.read()  # it has closed its end: it is about to exit
            process.send_signal(signal.SIGWINCH)
            process.signal_all(signal.SIGWINCH)
            found.append(await process.wait())
        return found

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(codes(), debug=False) == [7] * 50
    assert not caplog.records


def test_waiting_does_not_wait_for_those_who_hold_its_pipes() -> None:
    async def wait() -> int:
        process = await ChildProcess.start(["sh", "-c", "sleep 7919 & exit 3"])
        assert process.stderr
        async with asyncio.timeout(20):
            code = await process.wait()
            os.killpg(process.pid, signal.SIGKILL)
            await process.stderr.read()
        return code

    assert asyncio.run(wait()) == 3


def test_a_loop_that_is_closed_before_it_exits(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> ChildProcess:
        return await ChildProcess.start(["sleep", "7919"], stderr=subprocess.DEVNULL)

    with caplog.at_level(logging.WARNING):
        process = asyncio.run(leave())
        process.signal_all(signal.SIGKILL)
        process._popen.wait()
    assert not caplog.records
