"""sbatch: a batch script on the first host, where ``srun`` starts tasks on all hosts.

``srun``, ``scontrol show hostnames`` and ``sbatch`` are programs of the agent, see agent/mesh/slurm.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

from ..spec.model import Process
from . import rsh, slurm
from .base import Framework, Place
from .env import ACCELERATE
from .torch import COMPUTED

#: How many tasks srun starts on each host, where that is not the number of ranks.
TASKS_PER_NODE = "SLURM_NTASKS_PER_NODE"
#: The signal that comes some time before the time limit: ``B:USR1@60``.
SIGNAL = "SBATCH_SIGNAL"
#: What the agent on each host sets, which alone knows it.
OF_HOST = frozenset(
    ("SLURM_CPUS_ON_NODE", "SLURM_JOB_END_TIME", "SLURM_JOB_GID", "SLURM_JOB_START_TIME",
     "SLURM_JOB_UID", "SLURM_JOB_USER", "SLURM_TASK_PID")
)  # fmt: skip


class Sbatch(Framework):
    """For scripts written for ``sbatch``.

    Source: sbatch(1) and srun(1).
    """

    name = "sbatch"
    about = "a batch script on the first host only; srun in it starts tasks on all hosts"
    computed = (slurm.Slurm.computed | OF_HOST | {"LAUNCHER_SLURM"}) - COMPUTED - {
        TASKS_PER_NODE
    } | {"CUDA_VISIBLE_DEVICES"}
    shell = True
    joins_hosts = True
    programs: ClassVar[Mapping[str, str]] = {"accelerate": ACCELERATE}

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return the script on the first host, and a peer on the others."""
        each = place.env.get(TASKS_PER_NODE, "")
        number = int(each) if each.isdecimal() else None
        counts = [number or node.local_world_size for node in place.layout.nodes]
        nodes = [
            {
                "name": node.host.name,
                "address": place.meeting.address_of(node.host),
                "tasks": counts[node.node_rank],
                "gpus": list(node.gpu_names or map(str, node.gpus)),
            }
            for node in place.layout.nodes
        ]
        own = place.meeting.addresses.get(place.node.host.name)
        # Where a host's own name is loopback, torchrun would give others that address.
        addresses = {"PET_LOCAL_ADDR": own, "POD_IP": own} if own else {}
        env = {
            **addresses,
            **rsh.names(place.layout),
            **place.env,
            **slurm.of_job(place, counts),
            "LAUNCHER_SLURM": json.dumps(nodes),
        }
        return rsh.processes(place, place.command(), env, secrets=True)
