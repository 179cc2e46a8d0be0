"""Make a request from a job and an inventory, and refuse contradictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..jobs import command
from ..jobs.environments import replaced_in, with_python
from ..jobs.layout import RERUN, check_split, on_fewer
from ..jobs.run_options import PRIORITIES
from ..spec import data, given
from ..spec import inventory as inventories
from ..spec.environments import Environment
from ..spec.errors import InputError, suggestion
from ..spec.gpu_models import read_count
from ..spec.model import Inventory, Job, Layout, Request, Resources
from ..spec.rates import LEAST_RATE
from . import credentials
from .policy import projects
from .policy.passed_over import takes_what_is_free
from .policy.turn import can_wait


def make_request(job: Job, inventory: Inventory, **options: Any) -> Request:
    """Return a request with the hosts that the job may use. Raises InputError."""
    hosts = with_python(inventories.select(inventory, job.hosts), job)
    check_restarts(job, len(hosts))
    if options.get("stdin"):
        restarts = options.get("max_restarts", job.max_restarts)
        check_stdin(job, bool(restarts), bool(options.get("preemptible")))
    check_waiting(job, **{name: one for name, one in options.items() if name in _WAITING})
    check_numbers(options)
    if job.resources.gpus and job.num_nodes and not job.roles:
        check_split(job, job.num_nodes)
    options = {"max_restarts": job.max_restarts, "min_nodes": job.min_nodes, **options}
    if job.num_nodes and job.num_nodes > len(hosts):
        named = ", ".join(host.name for host in hosts[:8]) + (", ..." if len(hosts) > 8 else "")
        raise InputError(
            f"--nodes {job.num_nodes}: there are only {len(hosts)} hosts ({named})",
            "choose more hosts: another inventory with -i, or another --hosts",
        )
    check_sources(job, inventory)
    credentials.require(job)
    check_project(job, inventory, options.get("project"), bool(options.get("preemptible")))
    return Request(job, inventory, hosts, **options)


def check_sources(job: Job, inventory: Inventory) -> None:
    """Raise InputError for a data set from a host that is not in the inventory."""
    known = [host.name for host in inventory.hosts]
    for one in job.data:
        there = data.on_a_host(one.source)
        if there and there[0] not in known:
            host, path = there
            raise InputError(
                f"data: {one.name} is from {one.source}, and no host of the inventory is called {host}",
                suggestion(host, known) or f"a folder called {host} here is ./{host}:{path}",
            )


def check_stdin(job: Job, restarts: bool, preemptible: bool) -> None:
    """Raise InputError for a run in which no single rank could read the user's stdin to its end."""
    if job.roles:
        raise InputError(
            "--stdin: a job with roles has no rank 0",
            "let the role that needs it read a file: files of the workdir travel with the job",
        )
    if job.preload:
        raise InputError(
            "--stdin: a rank that --preload forks reads nothing", "leave out one of the two"
        )
    if restarts or preemptible or job.elastic is not None:
        other = "--preemptible" if preemptible else "--max-restarts"
        raise InputError(
            "--stdin: a rank that starts again could not read again what the first one has read",
            f"leave out --stdin or {other}, or pass the input as a file of the workdir",
        )


def check_project(job: Job, inventory: Inventory, project: str | None, preemptible: bool) -> None:
    """Raise InputError for a project that is not there, or in which the run could never begin."""
    if project is None:
        if preemptible:
            raise InputError(
                "--preemptible gives GPUs back that a project has borrowed, and there is no project",
                "--project NAME, or launcher project set NAME",
            )
        return
    rule = projects.rule_of(inventory, project, projects.WITHOUT)
    if least := (on_fewer(job, job.elastic) if job.elastic else job).resources.gpus:
        projects.require_fit(rule, least, preemptible)


#: The least that numbers of a request may be; of some, they have to be more.
_LEAST = {"pull_every": 0, "lost_after": 0, "max_rate": 0, "columns": 1, "max_restarts": 0}
_MORE_THAN_NOTHING = ("orphan_timeout", "stall_timeout")


def check_numbers(options: Mapping[str, Any]) -> None:
    """Raise InputError for a number of which no run can make sense."""
    for name, least in _LEAST.items():
        given.require(name, options.get(name), least)
    for name in _MORE_THAN_NOTHING:
        given.require(name, options.get(name), 0, more=True)
    if 0 < options.get("max_rate", 0) < LEAST_RATE:
        raise InputError(
            f"max_rate: {options['max_rate']} bytes a second are less than {LEAST_RATE}",
            "0 means no limit",
        )


_WAITING = ("wait", "priority", "time_limit")


def check_waiting(
    job: Job, wait: float | None = 0.0, priority: int = 0, time_limit: float | None = None
) -> None:
    """Raise InputError for a run that cannot wait as it was asked to."""
    if wait != 0.0 and not can_wait(job):
        what = "a job with roles" if job.roles else "--gpus 0"
        raise InputError(
            f"--wait: {what} wants no GPUs, so it cannot wait for some",
            "leave --wait out, or ask for GPUs",
        )
    if wait is not None and wait < 0:
        raise InputError(f"wait: {wait:g} seconds are less than none")
    if time_limit is not None and time_limit <= 0:
        raise InputError(f"time_limit: {time_limit:g} seconds are no time to run")
    if priority not in PRIORITIES.values():
        raise InputError(f"priority: {priority} is none of -1, 0 and 1")


def changed(
    request: Request,
    layout: Layout,
    arguments: Sequence[str] | None = None,
    hosts: str | None = None,
    gpus: int | str | None = None,
) -> Request:
    """Return the request of a run with this layout, with new arguments, hosts or GPUs.

    Without ``gpus`` it has as many ranks as before. Raises InputError.
    """
    job, chosen = request.job, tuple(node.host for node in layout.nodes) or request.hosts
    credentials.require(job)
    if arguments is not None:
        job = replace(job, run=command.with_arguments(job.run, job.shell, arguments))
    if hosts is not None:
        job = replace(job, hosts=hosts)
    if gpus is not None:
        if job.roles:
            raise InputError(
                f"--gpus {gpus}: the roles of this run say what each of them takes",
                "change resources: of the roles in the job file",
            )
        job = replace(job, num_nodes=None, resources=_of_gpus(gpus))
    else:
        job = _of_size(job, layout, elsewhere=hosts is not None)
    if hosts is not None or gpus is not None:
        chosen = make_request(job, request.inventory).hosts
    return replace(request, job=_with_same_image(job, layout), hosts=with_python(chosen, job))


def _with_same_image(job: Job, layout: Layout) -> Job:
    """Return a job that wants the very images that the run had, whatever their names mean by now."""

    def pinned(one: Environment) -> Environment:
        known = [node.containers[one.key] for node in layout.nodes if one.key in node.containers]
        every = dict.fromkeys(its.id for its in known if its.id)  # one for each kind of machine
        return replace(one, pinned=" ".join(every)) if every else one

    return replaced_in(job, pinned)


def _of_size(job: Job, layout: Layout, elsewhere: bool) -> Job:
    """Return a job that took what was free, with the number of ranks that it got: batch sizes and
    results depend on it."""
    if not takes_what_is_free(job) or job.elastic is not None or not layout.nodes:
        return job
    with_gpus = any(node.gpus for node in layout.nodes)
    sizes = {node.local_world_size for node in layout.nodes}
    if not elsewhere and len(sizes) == 1:
        wanted, nodes = Resources(nproc_per_node=sizes.pop()), layout.num_nodes
    elif with_gpus:
        wanted = Resources(gpus=layout.world_size, gpu_model=job.resources.gpu_model)
        nodes = 0 if layout.world_size % (job.num_nodes or 1) else job.num_nodes or 0
    else:
        return job
    sources = {**job.sources, "resources": RERUN}
    return replace(job, resources=wanted, num_nodes=nodes or None, sources=sources)


def _of_gpus(gpus: int | str) -> Resources:
    try:
        model, count = read_count(str(gpus))
    except ValueError as error:
        raise InputError(f"gpus: {error}") from None
    return Resources(gpus=count, gpu_model=model)


def check_restarts(job: Job, hosts: int) -> None:
    """Raise InputError when restarts, spares and the elastic mode contradict each other."""
    if job.elastic is not None:
        span = f"--nodes {job.elastic}:{job.num_nodes}"
        if not job.max_restarts:
            raise InputError(
                f"{span} needs restarts, so that torchrun can re-form its group",
                "add --max-restarts 3",
            )
        if job.min_nodes is not None:
            raise InputError(
                f"--min-nodes {job.min_nodes} contradicts {span}, which has a minimum of its own",
                "leave out --min-nodes, or pass --nodes one number",
            )
    if job.min_nodes is None:
        return
    if not job.max_restarts:
        raise InputError(
            f"--min-nodes {job.min_nodes} needs restarts: a run continues with fewer hosts by "
            "restarting",
            "add --max-restarts 1, or max_restarts: in the job",
        )
    if job.min_nodes > (job.num_nodes or hosts):
        most = f"--nodes {job.num_nodes}" if job.num_nodes else f"the {hosts} hosts there are"
        raise InputError(
            f"--min-nodes {job.min_nodes} is more than {most}",
            "pass the least number of hosts that the run can use",
        )
