"""Make a request from a job and an inventory, and refuse contradictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..jobs import command
from ..jobs.environments import with_python
from ..spec import inventory as inventories
from ..spec.errors import InputError
from ..spec.gpu_models import read_count
from ..spec.model import Host, Inventory, Job, Request, Resources


def make_request(job: Job, inventory: Inventory, **options: Any) -> Request:
    """Return a request with the hosts that the job may use. Raises InputError."""
    hosts = with_python(inventories.select(inventory, job.hosts), job)
    check_restarts(job, len(hosts))
    options = {"max_restarts": job.max_restarts, "min_nodes": job.min_nodes, **options}
    if job.num_nodes and job.num_nodes > len(hosts):
        named = ", ".join(host.name for host in hosts[:8]) + (", ..." if len(hosts) > 8 else "")
        raise InputError(
            f"--nodes {job.num_nodes}: there are only {len(hosts)} hosts ({named})",
            "choose more hosts: another inventory with -i, or another --hosts",
        )
    return Request(job, inventory, hosts, **options)


def changed(
    request: Request,
    chosen: tuple[Host, ...],
    arguments: Sequence[str] | None = None,
    hosts: str | None = None,
    gpus: int | str | None = None,
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
        job = replace(job, num_nodes=None, resources=_of_gpus(gpus))
    if hosts is not None or gpus is not None:
        chosen = make_request(job, request.inventory).hosts
    return replace(request, job=job, hosts=chosen)


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
