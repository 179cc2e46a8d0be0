"""From a job and an inventory to a request: which hosts, how failures are treated, what contradicts."""

from __future__ import annotations

from typing import Any

from ..spec import inventory as inventories
from ..spec.errors import InputError
from ..spec.model import Inventory, Job, Request


def make_request(job: Job, inventory: Inventory, **options: Any) -> Request:
    """What a run is made of, with the hosts that the job may use. Raises InputError."""
    hosts = inventories.select(inventory, job.hosts)
    check_restarts(job, len(hosts))
    options = {"max_restarts": job.max_restarts, "min_nodes": job.min_nodes, **options}
    if job.num_nodes and job.num_nodes > len(hosts):
        named = ", ".join(host.name for host in hosts[:8]) + (", ..." if len(hosts) > 8 else "")
        raise InputError(
            f"--nodes {job.num_nodes}: there are only {len(hosts)} hosts ({named})",
            "more hosts: -i with another inventory, or another --hosts",
        )
    return Request(job, inventory, hosts, **options)


def check_restarts(job: Job, hosts: int) -> None:
    """Raise InputError where restarts, spares and the elastic mode contradict each other."""
    if job.elastic is not None:
        span = f"--nodes {job.elastic}:{job.num_nodes}"
        if not job.max_restarts:
            raise InputError(
                f"{span} needs restarts, so that torchrun can re-form its group",
                "add --max-restarts 3",
            )
        if job.min_nodes is not None:
            raise InputError(
                f"--min-nodes {job.min_nodes}: {span} says already how few hosts will do",
                "leave --min-nodes out, or give --nodes one number",
            )
    if job.min_nodes is None:
        return
    if not job.max_restarts:
        raise InputError(
            f"--min-nodes {job.min_nodes}: a run that is not started again cannot go on with fewer "
            "hosts",
            "--max-restarts 1, or max_restarts: in the job",
        )
    if job.min_nodes > (job.num_nodes or hosts):
        most = f"--nodes {job.num_nodes}" if job.num_nodes else f"the {hosts} hosts there are"
        raise InputError(
            f"--min-nodes {job.min_nodes} is more than {most}", "as many as the run can do with"
        )
