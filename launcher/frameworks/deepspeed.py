"""deepspeed: DeepSpeed's launcher for one host, on every host.

It needs no pdsh, no hostfile and no ssh between hosts. It starts each rank through our shim: a script
gets LOCAL_RANK in its environment, where ``deepspeed.init_distributed`` looks too, and no argument
``--local_rank``.
"""

from __future__ import annotations

import base64
import json

from ..spec.model import Node, Process
from ..spec.process_key import ProcessKey
from .base import Framework, Place
from .torch import COMPUTED, TORCH

#: What begins the word with the GPUs of all hosts.
WORLD = "--world_info="


class DeepSpeed(Framework):
    """What the command ``deepspeed`` starts on each host by pdsh, run by the host's Python.

    Source: deepspeed/launcher/launch.py of DeepSpeed 0.19.
    """

    name = "deepspeed"
    about = "DeepSpeed's launcher on every host, ranks started by it"
    computed = COMPUTED
    modules = ("deepspeed", "torch")
    allreduce = "torch"
    meets_by = TORCH
    takes_wrapper = True
    packed = (WORLD,)

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one launcher per host.

        Raises PlanError for unequal hosts: DeepSpeed computes LOCAL_RANK as rank modulo processes.
        """
        place.require_equal_hosts("DeepSpeed")
        node, meeting = place.node, place.meeting
        world = {other.host.name: _slots(other) for other in place.layout.nodes}
        argv = (
            *place.python(),
            "-m",
            "deepspeed.launcher.launch",
            "--log_level=error",
            WORLD + base64.urlsafe_b64encode(json.dumps(world).encode()).decode(),
            f"--node_rank={node.node_rank}",
            f"--master_addr={meeting.master_addr}",
            f"--master_port={meeting.master_port}",
            *place.job.launcher_options,
            "--no_local_rank",
            "--no_python",
            *place.rank_shim(),
            *place.command(),
        )
        return (
            Process(
                str(ProcessKey.of_node(node.node_rank)),
                None,
                argv,
                {**place.threads(), **place.env},
            ),
        )


def _slots(node: Node) -> list[str]:
    """Return what DeepSpeed counts, and joins for CUDA_VISIBLE_DEVICES: numbers, or the UUID of a MIG
    instance. All are texts: which they are, a host may decide that starts the run by itself."""
    return list(node.gpu_names or map(str, node.gpus or range(node.local_world_size)))
