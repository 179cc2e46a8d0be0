"""What rsync says is bounded."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from types import SimpleNamespace

import pytest

from launcher.spec import errors
from launcher.transport import rsync
from launcher.transport.child_process import ChildProcess


def test_complaints_without_end_are_a_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """rsync passes on what the far side says; it is neither kept nor waited for."""
    monkeypatch.setattr(rsync, "FLOOD", 1 << 20)

    async def drive() -> rsync._Ended:
        pipe = subprocess.PIPE
        flooding = ["sh", "-c", "yes complaint >&2"]
        process = await ChildProcess.start(flooding, stdin=pipe, stdout=pipe)
        far = SimpleNamespace(hang_up=lambda: None)

        async def serve() -> bytes:
            return b""

        try:
            async with asyncio.timeout(20):
                return await rsync._drive(process, far, serve(), b"", lambda percent: None)  # type: ignore[arg-type]
        finally:
            await process.end(signal.SIGKILL)

    ended = asyncio.run(drive())
    error = rsync._failure("evil", ended, is_pulling=True)
    assert isinstance(error, errors.BadAnswer)
    assert "without end" in error.message
