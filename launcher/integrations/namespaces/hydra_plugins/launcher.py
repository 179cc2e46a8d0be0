"""Hydra: ``python app.py -m hydra/launcher=launcher lr=0.1,0.2`` runs each job on hosts of an inventory.

The configuration of a job is composed here; the app's function and that travel. Its output folder is
below the outputs of its run. What the function returns on rank 0 is the job's value, for sweepers that
optimise.
"""

# No annotations of the future: Hydra executes this before it is in sys.modules, which they need.

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

import launcher

log = logging.getLogger(__name__)


@dataclass
class HydraLauncherConf:
    """The keys below ``hydra.launcher``, as those of :class:`launcher.FunctionJob`."""

    _target_: str = "hydra_plugins.launcher.HydraLauncher"
    inventory: str | None = None
    """By default the one that ``launcher run`` finds."""
    max_workers: int = 4
    """So many jobs at once."""
    nodes: int = 1
    nproc_per_node: int | None = None
    gpus: int | None = None
    hosts: str | None = None
    python: str | None = None
    workdir: str | None = None
    setup: str | None = None
    envs: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    """Variables of this shell."""
    max_restarts: int | None = None
    time_limit: str | None = None
    """As ``time:`` in a job file: 8h."""
    priority: str | None = None
    project: str | None = None
    wait: str | None = None


ConfigStore.instance().store(
    group="hydra/launcher", name="launcher", node=HydraLauncherConf, provider="launcher"
)


class HydraLauncher(Launcher):
    """Runs a batch of jobs, each over the ranks of a run of its own."""

    def __init__(self, inventory: str | None, max_workers: int, **job: Any) -> None:
        self._inventory, self._max_workers = inventory, max_workers
        given = {name: value for name, value in job.items() if value is not None}
        options = {name: given.pop(name, None) for name in ("priority", "project", "wait")}
        self._options = {**options, "time": given.pop("time_limit", None)}
        given["envs"] = dict(given["envs"])
        given["secrets"] = dict.fromkeys(given["secrets"])
        self._job = given

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take note of what Hydra has made of the command line."""
        self._context, self._function, self._config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, and return how each of them ended."""
        setup_globals()
        options = launcher.parse_options(self._options)
        with (
            launcher.Client(launcher.need_inventory(self._inventory)) as client,
            launcher.Executor(
                client, max_workers=self._max_workers, options=options, **self._named()
            ) as pool,
        ):
            started = []
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                log.info("#%d : %s", number, " ".join(filter_overrides(overrides)))
                config = self._config_of(list(overrides), number)
                future = pool.submit(_on_rank(self._function, self._context.callbacks, config))
                started.append((overrides, config, future))
            return [_ended(*one) for one in started]

    def _named(self) -> launcher.FunctionJob:
        name = str(self._config.hydra.job.name).replace("_", "-")
        given = {"name": name, **self._job}
        if not {"gpus", "nproc_per_node"} & given.keys():
            given["nproc_per_node"] = 1
        return cast(launcher.FunctionJob, given)  # checked by Executor

    def _config_of(self, overrides: list[str], number: int) -> DictConfig:
        """Compose the configuration here: its files may be outside of what travels."""
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.sweep.dir = "${oc.env:LAUNCHER_OUTPUT_DIR}"
            config.hydra.sweep.subdir = "hydra-${oc.env:RANK}"
            config.hydra.runtime.cwd = "."
            config.hydra.launcher = None  # its class is this module's, which hosts need not have
        return config


def _on_rank(function: TaskFunction, callbacks: Any, config: DictConfig) -> Callable[[], JobReturn]:
    """Return what runs one job on a rank, as Hydra's own launcher does.

    Hosts need Hydra, and no launcher: a function within a function travels by value.
    """

    def call() -> JobReturn:
        from hydra.core.utils import run_job, setup_globals
        from hydra.types import HydraContext

        setup_globals()
        done = run_job(
            hydra_context=HydraContext(config_loader=None, callbacks=callbacks),
            task_function=function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        done.return_value  # noqa: B018  it raises what the function raised
        return done

    return call


def _ended(
    overrides: Sequence[str], config: DictConfig, future: launcher.RunFuture[JobReturn]
) -> JobReturn:
    try:
        done = future.result()
    except launcher.LauncherError as error:
        log.error("%s", error)
        failed = JobReturn(overrides=overrides, cfg=config, status=JobStatus.FAILED)
        failed.return_value = error
        return failed
    assert future.run is not None
    done.overrides, done.working_dir = overrides, str(future.run.folder / "outputs")
    return done
