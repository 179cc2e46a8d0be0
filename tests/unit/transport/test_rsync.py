"""Cancelling rsync at any step of its start leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.spec import errors
from launcher.transport import rsync

#: As rsync: a process with a child that holds its pipes, and does not end by itself.
WITH_A_BRIDGE = ("sh", "-c", "sleep 7919 & wait")


@pytest.mark.parametrize("steps", range(8))
def test_breaking_off_at_any_step_of_the_start(steps: int) -> None:
    """Once, and again while that is under way: it ends at once, and its child with it."""

    async def broken_off() -> None:
        spawning = asyncio.ensure_future(
            rsync.spawn(*WITH_A_BRIDGE, pass_fds=[], env=dict(os.environ))
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        spawning.cancel()
        await asyncio.sleep(0)
        spawning.cancel()
        async with asyncio.timeout(20):
            try:
                await rsync.kill(await asyncio.shield(spawning))  # it was faster
            except asyncio.CancelledError:
                pass

    asyncio.run(broken_off())
    assert not _of_the_bridge()


def _of_the_bridge() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ends while we look
            found.append(path.read_bytes())
    return [command for command in found if b"7919" in command]


def test_complaints_without_end_are_a_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """rsync passes on what the far side says; it is neither kept nor waited for."""
    monkeypatch.setattr(rsync, "FLOOD", 1 << 20)

    async def drive() -> rsync._Ended:
        process = await rsync.spawn(
            "sh", "-c", "yes complaint >&2", pass_fds=(), env=dict(os.environ)
        )
        far = SimpleNamespace(hang_up=lambda: None)

        async def serve() -> bytes:
            return b""

        try:
            async with asyncio.timeout(20):
                return await rsync._drive(process, far, serve(), b"", lambda percent: None)  # type: ignore[arg-type]
        finally:
            await rsync.kill(process)

    ended = asyncio.run(drive())
    error = rsync._failure("evil", ended, is_pulling=True)
    assert isinstance(error, errors.BadAnswer)
    assert "without end" in error.message
