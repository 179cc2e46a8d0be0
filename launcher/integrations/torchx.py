"""TorchX: ``torchx run -s launcher``. A role becomes a run on hosts of an inventory.

The command of a role is run once for each of its replicas, as with any scheduler. An image means nothing
to hosts without containers; the workdir, the current folder by default, is what travels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, List, NamedTuple  # noqa: UP035

from torchx.schedulers.api import DescribeAppResponse, ListAppResponse, Scheduler, Stream
from torchx.specs import AppDef, AppDryRunInfo, AppState, RoleStatus, macros, runopts
from torchx.specs.api import ReplicaStatus

import launcher

_STATES = {
    "succeeded": AppState.SUCCEEDED,
    "failed": AppState.FAILED,
    "stopped": AppState.CANCELLED,
    "lost": AppState.FAILED,
}
_TEXTS = List[str]  # noqa: UP006 - TorchX compares with this very type
_WAITS = ("preparing", "waiting")


class Wanted(NamedTuple):
    """What is started, with which options, and the inventory of its hosts."""

    job: launcher.Job
    inventory: str | None
    options: launcher.RunOptions


@functools.cache
def _client() -> launcher.Client:
    return launcher.Client()


class LauncherScheduler(Scheduler[Mapping[str, Any]]):
    """Starts apps of one role as detached runs; the name of the run is the app's id."""

    def __init__(self, session_name: str) -> None:
        super().__init__("launcher", session_name)

    def _run_opts(self) -> runopts:
        options = runopts()
        options.add("inventory", type_=str, default=None, help="file with the hosts")
        options.add("hosts", type_=str, default=None, help="which of them, as launcher run --hosts")
        options.add("workdir", type_=str, default=".", help="the code that is copied to hosts")
        options.add("python", type_=str, default=None, help="Python of the hosts: venv:DIR, ...")
        options.add("envs", type_=_TEXTS, default=None, help="variables: A:1;B:2")
        options.add("secrets", type_=_TEXTS, default=None, help="variables of this shell: K;L")
        options.add("max_restarts", type_=int, default=None, help="restart all ranks this often")
        options.add("time_limit", type_=str, default=None, help="end the run after this: 8h")
        options.add("priority", type_=str, default=None, help="whose turn is first: low, high")
        options.add("project", type_=str, default=None, help="project in whose name it uses GPUs")
        options.add("wait", type_=str, default=None, help="for GPUs: forever, 2h or 0s")
        return options

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[Wanted]:
        job = job_of(app, cfg)
        return AppDryRunInfo(Wanted(job, cfg.get("inventory"), options_of(job, cfg)), repr)

    def schedule(self, dryrun_info: AppDryRunInfo[Wanted]) -> str:
        """Start the run, and return its name."""
        wanted = dryrun_info.request
        with launcher.Client(launcher.need_inventory(wanted.inventory)) as client:
            return client.run(wanted.job, detach=True, **wanted.options).name

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """Return how a run is; None if there is none of that name."""
        if app_id not in _client().names():
            return None
        run = _client().attach(app_id)
        state = _state(str(_client().show(app_id).status))
        replicas = [
            ReplicaStatus(id=node.node_rank, state=state, role="", hostname=node.host.name)
            for node in run.layout.nodes
        ]
        name = run.job.name or app_id
        receipt = run.receipt
        return DescribeAppResponse(
            app_id=app_id,
            state=state,
            msg=receipt.reason if receipt else "",
            roles_statuses=[RoleStatus(role=name, replicas=replicas)],
        )

    def list(self, cfg: Mapping[str, Any] | None = None) -> list[ListAppResponse]:
        """Return the runs of this machine."""
        return [
            ListAppResponse(app_id=one.run, state=_state(str(one.status)))
            for one in _client().list()
        ]

    def _cancel_existing(self, app_id: str) -> None:
        _client().attach(app_id).request_stop()

    def log_iter(  # noqa: PLR0913 - as the base class has it
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        """Yield the lines of a replica."""
        endings = {Stream.STDOUT: (".out",), Stream.STDERR: (".err",)}
        wanted = endings.get(streams or Stream.COMBINED, (".out", ".err"))
        for line in _client().attach(app_id).lines(follow=should_tail):
            stem = line.name.rpartition("/")[2]
            if not stem.startswith(f"node-{k}.") or not stem.endswith(wanted):
                continue
            if regex is None or re.search(regex, line.text):
                yield f"{line.text}\n"


def _state(status: str) -> AppState:
    return AppState.PENDING if status in _WAITS else _STATES.get(status, AppState.RUNNING)


def job_of(app: AppDef, cfg: Mapping[str, Any]) -> launcher.Job:
    """Return the job of an app. Raises InputError."""
    if len(app.roles) != 1:
        raise launcher.InputError(
            f"{app.name} has {len(app.roles)} roles, and launcher runs one with TorchX",
            "a job file has roles: launcher run job.yaml",
        )
    role = app.roles[0]
    values = macros.Values(
        img_root="", app_id="$LAUNCHER_RUN_ID", replica_id="$RANK", rank0_env="MASTER_ADDR"
    )
    role = values.apply(role)
    command = " ".join([_quoted(role.entrypoint), *map(_quoted, role.args)])
    known = {name: cfg[name] for name in ("hosts", "python", "workdir") if cfg.get(name)}
    gpus = {"gpus": role.resource.gpu * role.num_replicas} if role.resource.gpu > 0 else {}
    return launcher.make_job(
        run=(command,),
        shell=True,
        framework="env",
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", app.name),
        num_nodes=role.num_replicas,
        envs={**role.env, **_variables(cfg.get("envs") or ())},
        secrets=dict.fromkeys(cfg.get("secrets") or ()),
        max_restarts=role.max_retries if (most := cfg.get("max_restarts")) is None else most,
        **({"resources": gpus} if gpus else {}),
        **known,
    )


def options_of(job: launcher.Job, cfg: Mapping[str, Any]) -> launcher.RunOptions:
    """Return the options of the run: where GPUs are in use it waits its turn. Raises InputError."""
    values = {name: cfg.get(name) for name in ("priority", "project", "wait")}
    found = launcher.parse_options({**values, "time": cfg.get("time_limit")})
    if launcher.can_wait(job):
        found.setdefault("wait", None)
    return found


def _variables(texts: Iterable[str]) -> dict[str, str]:
    """Return the variables that ``A:1`` and its like set: TorchX's command line has no ``=`` within a
    value. Raises InputError."""
    pairs = [re.fullmatch(r"(\w+)[:=](.*)", text, re.S) for text in texts]
    if None in pairs:
        raise launcher.InputError("envs: a variable has no value", "such as envs=A:1;B:2")
    return {pair[1]: pair[2] for pair in pairs if pair}


def _quoted(word: str) -> str:
    """Return a word for a shell, which fills in the variables of macros."""
    escaped = re.sub(r"([\\\\`\"]|\$(?!(?:LAUNCHER_RUN_ID|RANK|MASTER_ADDR)\b))", r"\\\1", word)
    return f'"{escaped}"'


def create_scheduler(session_name: str, **kwargs: object) -> LauncherScheduler:
    """Return the scheduler: what TorchX asks an entry point for."""
    return LauncherScheduler(session_name)
