"""A connection that dropped: how long a host is tried again; what its supervisor is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.spec import errors
from launcher.spec import inventory as inventories
from launcher.spec.model import Facts, Host
from launcher.transport.agent_client import Agent
from launcher.transport.ssh import Dialler
from support import lab as labs
from support.command import Launcher


class FakeAgent:
    """Answers everything; or its connection drops at one operation."""

    def __init__(self, drops_at: str = "") -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked: dict[str, dict[str, Any]] = {}
        self._drops_at = drops_at

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        if op == self._drops_at:
            self.drop()
        if self.closed.done():
            raise errors.ConnectionLost("far", "the connection was lost")
        self.asked[op] = request
        return {"asked": op}

    async def probe(self, with_gpus: bool = True) -> Facts:
        return Facts("far", "far", "/root", "python3", "3.11", 1)

    def drop(self) -> None:
        self.closed.set_result("the connection dropped")

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class FakeSsh:
    """A connection with an agent at its other end."""

    agent: FakeAgent

    def abort(self) -> None:
        """It is gone anyhow."""

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture(autouse=True)
def fake_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake connection leads to its own agent."""
    real = Agent.open

    async def open_any(host: Host, connection: Any) -> Any:
        if isinstance(connection, FakeSsh):
            return connection.agent
        return await real(host, connection)

    monkeypatch.setattr(Agent, "open", open_any)


@pytest.mark.usefixtures("by_asyncssh")
def test_a_connection_lost_while_a_session_opens_is_told_as_that(
    lab: labs.Lab, inventory: Path
) -> None:
    """And not as a host that opens none: the hint would be about its sshd_config."""
    known = inventories.load(inventory.read_text(), str(inventory))
    host = lab.hosts["lab1"]

    async def lose() -> None:
        connection = await Dialler(known).connect("lab1")
        host.kill_sshd_sessions()
        with pytest.raises(errors.ConnectionLost) as caught:
            await Agent.open(known.host("lab1"), connection)
        assert "the connection was lost" in caught.value.message

    asyncio.run(lose())


def test_a_drop_while_processes_are_started_starts_each_of_them_once(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Whether the host's answer was on its way or not: it is asked again."""
    host, count = clean.hosts["lab2"], 40
    flags = ["--nodes", "2", "--nproc-per-node", str(count), "--framework", "torch"]
    script = launcher.script("import time\nprint('once', flush=True)\ntime.sleep(1)\n")
    process = launcher.start(*flags, script)
    try:
        labs.wait_until(lambda: list(launcher.home.glob("runs/*")), "its name")
        (run,) = launcher.home.glob("runs/*")  # others have left theirs on the host
        logs = host.path(f"/root/.launcher/host/runs/{run.name}/logs/attempt-0")
        labs.wait_until(lambda: any(logs.glob("rank-*.out")), "a first process")
        host.kill_sshd_sessions()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err.decode()
    assert b"lab2: the connection dropped" in err
    said = [log.read_bytes() for log in launcher.home.glob("runs/*/logs/attempt-0/rank-*.out")]
    assert said == [b"once\n"] * 2 * count
