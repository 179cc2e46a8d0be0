"""A connection that dropped: how long a host is tried again; what its supervisor is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launcher.spec import errors
from launcher.spec import inventory as inventories
from launcher.transport.agent_client import Agent
from launcher.transport.ssh import Dialler
from support import lab as labs
from support.command import Launcher


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
    script = launcher.script(
        "import os, time\nprint('once', flush=True)\n"
        "while not os.path.exists('/tmp/dropped'):\n    time.sleep(0.1)\n"
    )
    for name in ("lab1", "lab2"):
        clean.hosts[name].run("rm", "-f", "/tmp/dropped")
    process = launcher.start(*flags, script)
    try:
        labs.wait_until(lambda: list(launcher.home.glob("runs/*")), "its name")
        (run,) = launcher.home.glob("runs/*")  # others have left theirs on the host
        logs = host.path(f"/root/.launcher/host/runs/{run.name}/logs/attempt-0")
        labs.wait_until(lambda: any(logs.glob("rank-*.out")), "a first process")
        host.kill_sshd_sessions()
        events = launcher.home / "runs" / run.name / "events.jsonl"
        labs.wait_until(lambda: b'"ConnectionDropped"' in events.read_bytes(), "the drop")
        for name in ("lab1", "lab2"):
            clean.hosts[name].write("/tmp/dropped", b"")
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err.decode()
    assert b"lab2: the connection dropped" in err
    said = [log.read_bytes() for log in launcher.home.glob("runs/*/logs/attempt-0/rank-*.out")]
    assert said == [b"once\n"] * 2 * count
