"""jax: one process per rank, with the coordinator's address, the number of processes and its own.

JAX itself reads only the address: a script passes the other two to ``jax.distributed.initialize``.
"""

from __future__ import annotations

from ..spec.addresses import endpoint
from ..spec.model import Process
from .base import Cast, Framework, Place


class Jax(Framework):
    """``jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
    process_id=int(os.environ["JAX_PROCESS_ID"]))``, or placeholders in the arguments.

    Source: https://docs.jax.dev/en/latest/multi_process.html
    """

    name = "jax"
    about = "one process per rank with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID"
    computed = frozenset(
        {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "CUDA_VISIBLE_DEVICES"}
    )
    imports = ("jax",)
    allreduce = "jax"
    meets_by = "/jaxlib/"
    cast = Cast()

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per rank; rank 0, on the first host, is the coordinator."""
        meeting = place.meeting
        shared = {
            "JAX_COORDINATOR_ADDRESS": endpoint(meeting.master_addr, meeting.master_port),
            "JAX_NUM_PROCESSES": str(place.layout.world_size),
        }
        made = []
        for task in place.tasks():
            env = {**shared, "JAX_PROCESS_ID": str(task.rank)}
            if task.gpus:  # JAX takes every GPU that it sees
                env |= place.node.visible(task.gpus)
            made.append(place.process(task, env))
        return tuple(made)
