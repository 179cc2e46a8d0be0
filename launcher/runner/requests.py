"""Make a request from a job and an inventory, and refuse contradictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..jobs import command
from ..jobs.environments import with_python
from ..spec import inventory as inventories
from ..spec.errors import InputError
from ..spec.model import Host, Inventory, Job, Request, Resources
from .policy.turn import can_wait

#: Priorities by their names.
PRIORITIES = {"low": -1, "normal": 0, "high": 1}


def make_request(job: Job, inventory: Inventory, **options: Any) -> Request:
    """Return a request with the hosts that the job may use. Raises InputError."""
    hosts = with_python(inventories.select(inventory, job.hosts), job)
    check_restarts(job, len(hosts))
    check_waiting(job, **{name: one for name, one in options.items() if name in _WAITING})
    options = {"max_restarts": job.max_restarts, "min_nodes": job.min_nodes, **options}
    if job.num_nodes and job.num_nodes > len(hosts):
        named = ", ".join(host.name for host in hosts[:8]) + (", ..." if len(hosts) > 8 else "")
        raise InputError(
            f"--nodes {job.num_nodes}: there are only {len(hosts)} hosts ({named})",
            "choose more hosts: another inventory with -i, or another --hosts",
        )
    return Request(job, inventory, hosts, **options)


_WAITING = ("wait", "priority", "time_limit")


def check_waiting(
    job: Job, wait: float | None = 0.0, priority: int = 0, time_limit: float | None = None
) -> None:
    """Raise InputError for a run that cannot wait as it was asked to."""
    if wait != 0.0 and not can_wait(job):
        what = (
            "a job with roles"
            if job.roles
            else "--gpu-ids"
            if job.resources.gpu_ids
            else "--gpus 0"
        )
        raise InputError(
            f"--wait: {what} cannot wait for its turn",
            "start it again later, or leave the choice of GPUs to launcher: --gpus N",
        )
    if wait is not None and wait < 0:
        raise InputError(f"wait: {wait:g} seconds are less than none")
    if time_limit is not None and time_limit <= 0:
        raise InputError(f"time_limit: {time_limit:g} seconds are no time to run")
    if priority not in PRIORITIES.values():
        raise InputError(f"priority: {priority} is none of -1, 0 and 1")


def changed(
    request: Request,
    chosen: tuple[Host, ...],
    arguments: Sequence[str] | None = None,
    hosts: str | None = None,
    gpus: int | None = None,
) -> Request:
    """Return the request of a run on its ``chosen`` hosts, with new arguments, hosts or GPUs.

    Raises InputError.
    """
    job = request.job
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
        job = replace(job, num_nodes=None, resources=Resources(gpus=gpus))
    if hosts is not None or gpus is not None:
        chosen = make_request(job, request.inventory).hosts
    return replace(request, job=job, hosts=chosen)


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
