"""Ends what a run left on a host that could not be reached when it ended, and corrects its receipt.

Not responsible for when: whoever reaches a host next does it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from .errors import HostError
from .remote import Agent
from .store import home, read_json, write_json

#: Which hosts could not be looked at, in the folder of a run that has ended.
UNFINISHED = "unfinished.json"
#: Seconds for a supervisor to be gone after it was told to kill.
PATIENCE = 5.0


def unfinished(host: str) -> list[Path]:
    """The runs of this machine that have ended, but perhaps not on this host."""
    marks = (home() / "runs").glob(f"*/{UNFINISHED}")
    return [mark.parent for mark in marks if host in read_json(mark)]


async def finish(agent: Agent, host: str) -> list[str]:
    """Kills what unfinished runs still have on a host; their names. Raises HostError."""
    ended = []
    for path in unfinished(host):
        try:
            await agent.ask("stop", run=path.name, grace=0.0, why="its launcher had given up")
            deadline = time.monotonic() + PATIENCE
            while (await agent.ask("alive", run=path.name))["alive"]:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
            found = await agent.ask("sweep", run=path.name, host=host, kill=True)
        except HostError:
            if agent.closed.done():
                raise
            continue  # the run has no folder there
        _amend(path, host, found)
        ended.append(path.name)
    return ended


def _amend(path: Path, host: str, found: dict[str, Any]) -> None:
    receipt = read_json(path / "receipt.json")
    for part in receipt["hosts"]:
        if part["host"] == host:
            when = time.strftime("%d %b %Y %H:%M:%S")
            part["left"] = len(found["left"])
            part["scanned"] = found["scanned"]
            part["verified"] = f"reached again on {when}: all of /proc read, nothing left"
    write_json(path / "receipt.json", receipt)
    rest = [name for name in read_json(path / UNFINISHED) if name != host]
    if rest or found["left"]:
        write_json(path / UNFINISHED, rest + ([host] if found["left"] else []))
    else:
        (path / UNFINISHED).unlink()
