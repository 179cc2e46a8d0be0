"""How many hosts a run opens. Pure."""

from __future__ import annotations

from ...spec.model import Job


def how_many(job: Job, open_hosts: int, waiting: int) -> int:
    """Return how many hosts to open next: all when their GPUs have to be compared, else as many as
    are still missing."""
    compares = bool(job.roles) or (bool(job.resources.gpus) and job.num_nodes is None)
    if compares or (job.hosts and job.num_nodes is None):
        return waiting
    return max(1, (job.num_nodes or 1) - open_hosts)
