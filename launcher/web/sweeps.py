"""What pages are told of sweeps, and how they stop one."""

from __future__ import annotations

import asyncio
from typing import Any

from ..api import sweeps
from ..api.client import AsyncClient
from ..api.sweeps import SweepFolder, SweepSummary
from ..spec.errors import LauncherError


def listed() -> list[dict[str, Any]]:
    """Return all sweeps, the latest first. One that cannot be read says why."""
    found = []
    for name in reversed(sweeps.names()):
        try:
            found.append(_line(SweepFolder.find(name).summary()))
        except LauncherError as error:
            found.append({"sweep": name, "problem": str(error)})
    return found


def one(name: str) -> dict[str, Any]:
    """Return a sweep with its trials, the best first. Raises OSError, LauncherError."""
    found = _known(name).summary()
    trials = [
        {
            "id": trial.id,
            "params": dict(trial.params),
            "status": trial.status,
            "run": trial.run,
            "reason": trial.reason,
            "value": trial.value,
            "hosts": list(trial.hosts),
            "started": trial.started,
            "seconds": trial.seconds,
        }
        for trial in found.ranked
    ]
    return {**_line(found), "parameters": list(found.record.parameters), "ranked": trials}


class SweepStops:
    """Stops sweeps. Runs that a dead one left are stopped from here."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._stopping: set[asyncio.Task[Any]] = set()

    async def stop(self, name: str) -> None:
        """Ask a sweep to stop. Raises OSError, LauncherError."""
        folder = await asyncio.to_thread(_known, name)
        if sweeps.stop(folder):
            return
        task = asyncio.create_task(sweeps.stop_runs(self._client, folder))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        done, _ = await asyncio.wait({task}, timeout=1.0)
        if done:
            task.result()


def _known(name: str) -> SweepFolder:
    if name not in sweeps.names():  # the api also takes beginnings
        raise FileNotFoundError(name)
    return SweepFolder.find(name)


def _line(found: SweepSummary) -> dict[str, Any]:
    best = next((trial for trial in found.ranked if trial.value is not None), None)
    return {
        "sweep": found.name,
        "created": found.record.created,
        "trials": found.record.trials,
        "succeeded": found.counted("succeeded"),
        "running": found.counted("running"),
        "stopped": found.counted("stopped"),
        "pruned": found.counted("pruned"),
        "failed": found.failed,
        "is_running": found.is_held,
        "metric": found.record.metric,
        "goal": found.record.goal,
        "best": best and best.value,
        "best_run": best and best.run,
    }
