"""Clusters that are kept: runs without a script, until somebody stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..frameworks.cluster import KEEP
from ..spec.errors import InputError

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..spec.model import Job
    from .handles import AsyncRunHandle

__all__ = ["FRAMEWORKS", "KEEP", "NEVER", "check", "until_joined"]

#: The frameworks that make a cluster.
FRAMEWORKS = ("dask", "ray")
#: Seconds after which one that does nothing counts as stalled: it waits for work, on purpose.
NEVER = 10 * 365 * 86400.0
#: What the first host prints when all have joined.
_JOINED = (b" host has joined; ", b" hosts have joined; ")
#: Bytes of a log in which that line is looked for.
_LONGEST = 1 << 16


def check(job: Job) -> None:
    """Raise InputError for a job whose framework makes no cluster."""
    if job.framework not in FRAMEWORKS:
        raise InputError(
            f"framework {job.framework} makes no cluster to keep",
            f"--framework {' or '.join(FRAMEWORKS)}",
        )


async def until_joined(run: AsyncRunHandle) -> str | Receipt | None:
    """Return the line that says that all hosts have joined, or the receipt if the run ended before."""
    logs: dict[str, bytes] = {}
    async for piece in run.logs(follow=True):
        logs[piece.name] = (logs.get(piece.name, b"") + piece.data)[-_LONGEST:]
        for line in logs[piece.name].split(b"\n")[:-1]:
            if any(mark in line for mark in _JOINED):
                return line.decode("utf-8", "replace")
    return run.receipt
