"""Clusters that are kept: runs without a script, until somebody stops them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .. import frameworks
from ..frameworks.cluster import KEEP, Cluster
from ..spec.errors import InputError

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..spec.model import Job
    from .async_handle import AsyncRunHandle

__all__ = ["FRAMEWORKS", "KEEP", "NEVER", "check", "dashboard_port", "until_joined"]

#: The frameworks of ours that make a cluster; packages may add others.
FRAMEWORKS = ("dask", "ray")
#: Seconds after which one that does nothing counts as stalled: it waits for work, on purpose.
NEVER = 10 * 365 * 86400.0
#: What the first host prints when all have joined.
_JOINED = (b" host has joined; ", b" hosts have joined; ")
_DASHBOARD = re.compile(
    r"\w+: \d+ hosts? ha(?:s|ve) joined; .*; dashboard: launcher forward \S+ (\d{1,5})"
)
#: Bytes of a log in which that line is looked for.
_LONGEST = 1 << 16


def check(job: Job) -> None:
    """Raise InputError for a job whose framework makes no cluster."""
    if not isinstance(frameworks.get(job.framework), Cluster):
        raise InputError(
            f"framework {job.framework} makes no cluster to keep",
            f"--framework {' or '.join(FRAMEWORKS)}",
        )


async def dashboard_port(run: AsyncRunHandle) -> int:
    """Return the port of a run's dashboard on its first host. Raises InputError if it has none (yet), or
    none any more."""
    found: dict[int, int] = {}
    async for line in run.lines():
        attempt, _, log = line.name.partition("/")
        ready = _DASHBOARD.fullmatch(line.text) if log.startswith("node-0.") else None
        if ready:
            found[int(attempt.removeprefix("attempt-"))] = int(ready[1])
    if not found:
        raise InputError(
            f"{run.name} has no dashboard: no Dask or Ray cluster of it has come up",
            "name a port of its host: launcher forward RUN PORT",
        )
    if run.receipt is not None:
        raise InputError(
            f"{run.name} has ended, and its dashboard with it",
            f"launcher rerun {run.name} starts the cluster again",
        )
    return found[max(found)]


async def until_joined(run: AsyncRunHandle) -> str | Receipt | None:
    """Return the line that says that all hosts have joined, or the receipt if the run ended before."""
    logs: dict[str, bytes] = {}
    async for piece in run.logs(follow=True):
        logs[piece.name] = (logs.get(piece.name, b"") + piece.data)[-_LONGEST:]
        for line in logs[piece.name].split(b"\n")[:-1]:
            if any(mark in line for mark in _JOINED):
                return line.decode("utf-8", "replace")
    return run.receipt
