"""Clean up a run on a host that was unreachable when the run ended, and correct its receipt."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..records.reasons import StopReason
from ..records.record_files import read_as, write_json
from ..spec.errors import HostError
from ..spec.home import home
from ..transport.agent_client import Agent
from ..transport.answers.runs import Standing, Swept

#: Seconds for a supervisor to exit once it was asked to kill its run.
PATIENCE = 5.0


def _mark(run: str) -> Path:
    """Return the file with the hosts that a run could not verify at its end.

    It is beside the runs because it is read at every connection, and there may be thousands of runs.
    """
    return home() / "unfinished" / f"{run}.json"


def remember(run: str, hosts: list[str]) -> None:
    """Record the hosts on which a run may still run. Raises OSError."""
    if hosts:
        _mark(run).parent.mkdir(mode=0o700, exist_ok=True)
        write_json(_mark(run), hosts)
    else:
        _mark(run).unlink(missing_ok=True)


def unfinished(host: str) -> list[str]:
    """Return the runs of this machine that are over, but perhaps not on this host."""
    marks = _mark("any").parent.glob("*.json")
    return [mark.stem for mark in marks if host in _hosts(mark, host)]


def unfinished_runs() -> frozenset[str]:
    """Return the runs of this machine that are over, but perhaps not on every host."""
    return frozenset(mark.stem for mark in _mark("any").parent.glob("*.json"))


def _hosts(mark: Path, host: str) -> tuple[str, ...]:
    """Return the hosts that a mark names.

    One that a power cut has emptied may have named any host of its run, and counts for all that the
    receipt names, and for ``host``: looking there once more does no harm.
    """
    named = read_as(tuple[str, ...], mark)
    if named is not None:
        return named
    receipt = read_as(dict[str, Any], _receipt(mark.stem)) or {}
    found = [part.get("host") for part in _parts(receipt)]
    return tuple({host, *(name for name in found if isinstance(name, str))})


def _receipt(run: str) -> Path:
    return home() / "runs" / run / "receipt.json"


def _parts(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a receipt holds of each host, as far as it can be read."""
    parts = receipt.get("hosts")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


async def finish(agent: Agent, host: str) -> list[str]:
    """Kill what unfinished runs still have on a host; return their names. Raises HostError."""
    ended = []
    for run in unfinished(host):
        try:
            await agent.ask("stop", run=run, grace=0.0, why=StopReason.HOST_GIVEN_UP)
            deadline = time.monotonic() + PATIENCE
            standing = await agent.answer(Standing, "alive", run=run)
            while standing.alive and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                standing = await agent.answer(Standing, "alive", run=run)
            found = await agent.answer(Swept, "sweep", run=run, host=host, kill=True)
        except HostError:
            if agent.closed.done():
                raise
            continue  # the run has no folder there
        named = _hosts(_mark(run), host)
        with suppress(OSError):  # a full disk here: it is looked at again next time
            remember(run, [name for name in named if name != host or found.left])
        expiry = None
        if standing.expiry:
            when = standing.expiry.time - (standing.now - time.time())
            expiry = {"time": when, "silent": standing.expiry.silent}
        _amend(_receipt(run), host, found, expiry)
        ended.append(run)
    return ended


def _amend(path: Path, host: str, found: Swept, expiry: dict[str, float] | None) -> None:
    receipt = read_as(dict[str, Any], path)
    if receipt is None:  # deleted meanwhile, or damaged
        return
    for part in _parts(receipt):
        if part.get("host") == host:
            when = time.strftime("%d %b %Y %H:%M:%S")
            part["left"] = len(found.left)
            part["scanned"] = found.scanned
            part["expiry"] = part.get("expiry") or expiry
            part["verified"] = f"reached again on {when}: all of /proc read"
    with suppress(OSError):
        write_json(path, receipt)
