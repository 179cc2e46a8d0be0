"""submitit: ``AutoExecutor(folder, cluster="launcher")`` runs functions on hosts of an inventory.

Each job is a detached run, whose name is the job's id: ``launcher ls``, ``logs`` and ``stop`` know it,
and a job that was pickled finds it again. Hosts need submitit only for functions that import it.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from submitit.core import core, utils

import launcher

#: Keys of a function's job that ``update_parameters`` takes as ``launcher_KEY``, besides
#: those that ``AutoExecutor`` knows by names of its own.
PARAMETERS = {"envs", "hosts", "max_restarts", "outputs", "python", "setup", "workdir"}
#: Those of ``AutoExecutor`` that a run has no word for.
_WITHOUT_EFFECT = {"mem_gb", "cpus_per_task", "stderr_to_stdout"}


@functools.cache
def _client() -> launcher.Client:
    """Return the client by which jobs are found: records of this machine need no inventory."""
    return launcher.Client()


class LauncherJob(core.Job[Any]):
    """A job, or one of its tasks, each of which is a rank of the run."""

    def _register_in_watcher(self) -> None:
        """Do nothing: the record of a run says how it is."""

    @property
    def _run(self) -> launcher.RunHandle:
        return _client().attach(self.job_id)

    @property
    def state(self) -> str:
        """The status of the run, in capitals."""
        return str(_client().show(self.job_id).status).upper()

    def get_info(self, mode: str = "force") -> dict[str, str]:
        """Return the status of the run."""
        return {"jobState": self.state}

    def done(self, force_check: bool = False) -> bool:
        """Return whether the run has ended."""
        return self._run.receipt is not None

    def wait(self) -> None:
        """Wait until the run has ended."""
        self._run.wait(progress=False)

    def cancel(self, check: bool = True) -> None:
        """Stop the run; with ``check``, wait until nothing of it is left."""
        if check:
            self._run.stop()
        else:
            self._run.request_stop()

    def _get_outcome_and_result(self) -> tuple[str, Any]:
        try:
            return "success", launcher.results(self._run)[self.task_id or 0]
        except launcher.FunctionFailed as error:
            if error.rank is None:
                raise utils.UncompletedJobError(str(error)) from error
            return "error", error.traceback or str(error)

    def _get_logs_string(self, name: str) -> str | None:
        ending = {"stdout": ".out", "stderr": ".err"}[name]
        wanted = f"rank-{self.task_id or 0}{ending}"
        parts = [p.data for p in self._run.logs() if p.name.endswith(f"/{wanted}")]
        return b"".join(parts).decode(errors="replace") if parts else None

    def __del__(self) -> None:
        if self._cancel_at_deletion and not self.done():
            self.cancel(check=False)


class LauncherExecutor(core.Executor):
    """Starts jobs. ``launcher_inventory`` of ``AutoExecutor`` is its inventory."""

    job_class = LauncherJob

    def __init__(self, folder: Path | str, inventory: str | None = None) -> None:
        super().__init__(folder)
        self._inventory = launcher.need_inventory(inventory)

    @classmethod
    def affinity(cls) -> int:
        """Return that it is taken only when it is asked for."""
        return 0

    @classmethod
    def _equivalence_dict(cls) -> core.EquivalenceDict:
        return core.EquivalenceDict(
            name="name",
            timeout_min="timeout_min",
            mem_gb="mem_gb",
            nodes="nodes",
            cpus_per_task="cpus_per_task",
            gpus_per_node="gpus_per_node",
            tasks_per_node="nproc_per_node",
        )

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return set(PARAMETERS)

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[utils.DelayedSubmission]
    ) -> list[core.Job[Any]]:
        return [self._submitted(one) for one in delayed_submissions]

    def _submitted(self, delayed: utils.DelayedSubmission) -> LauncherJob:
        client = launcher.Client(self._inventory)
        job, options, tasks = job_of(self.parameters)
        ranks = launcher.processes(client, detach=True, options=options, **job)
        try:
            run = ranks.start(in_a_job(delayed.function), *delayed.args, **delayed.kwargs)
        finally:
            client.close()
        return LauncherJob(self.folder, run.name, list(range(tasks)))


def job_of(
    parameters: Mapping[str, Any],
) -> tuple[launcher.FunctionJob, launcher.RunOptions, int]:
    """Return the job of a function, the options of its run, and the number of tasks, from parameters of
    an executor. Raises InputError."""
    job: dict[str, Any] = {"nodes": 1, **parameters}
    options = launcher.RunOptions()
    if minutes := job.pop("timeout_min", None):
        options["time_limit"] = 60.0 * minutes
    for name in _WITHOUT_EFFECT & job.keys():
        warnings.warn(f"{name} has no effect with launcher", stacklevel=2)
        del job[name]
    tasks, each = job.get("nproc_per_node"), job.pop("gpus_per_node", 0)
    if each and tasks not in (None, each):
        raise launcher.InputError(
            f"tasks_per_node={tasks} with gpus_per_node={each}: launcher starts a task for each GPU",
            "leave out tasks_per_node",
        )
    if each:
        job.pop("nproc_per_node", None)
        job["gpus"] = each * job["nodes"]
        options["wait"] = None  # as a queue does
    else:
        job["nproc_per_node"] = tasks or 1
    if "name" in job:
        job["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", job["name"]).strip("-._") or "submitit"
    return cast(launcher.FunctionJob, job), options, job["nodes"] * (each or tasks or 1)


def in_a_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that finds submitit's ``JobEnvironment`` on its rank.

    It is one of submitit's own kinds, so that hosts need no launcher: a function within a function
    travels by value.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        import os

        has = os.environ
        has["SUBMITIT_EXECUTOR"] = "local"
        has["SUBMITIT_FOLDER"] = has["LAUNCHER_OUTPUT_DIR"]
        has["SUBMITIT_LOCAL_JOB_ID"] = has["LAUNCHER_RUN_ID"]
        has["SUBMITIT_LOCAL_NTASKS"] = has["WORLD_SIZE"]
        has["SUBMITIT_LOCAL_JOB_NUM_NODES"] = has["GROUP_WORLD_SIZE"]
        has["SUBMITIT_LOCAL_NODEID"] = has["GROUP_RANK"]
        has["SUBMITIT_LOCAL_GLOBALID"] = has["RANK"]
        has["SUBMITIT_LOCAL_LOCALID"] = has["LOCAL_RANK"]
        return function(*args, **kwargs)

    return call
