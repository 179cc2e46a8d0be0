"""accelerate: ``accelerate launch`` once a host with rank and address, no config file on any host.

It starts torch's own launcher, which starts the ranks; each goes through our shim.
"""

from __future__ import annotations

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from .base import Framework, Place
from .torch import COMPUTED


class Accelerate(Framework):
    """Hugging Face's launcher, found by the host's Python and never by PATH.

    Source: https://huggingface.co/docs/accelerate/package_reference/cli#accelerate-launch
    """

    name = "accelerate"
    about = "accelerate launch on every host, ranks started by it"
    computed = COMPUTED
    modules = ("accelerate", "torch")
    allreduce = "torch"

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One launcher a host. ``--multi_gpu`` on hosts without GPUs as well: with ``--cpu`` it would
        start one process, whatever it is told. Raises PlanError for unequal hosts."""
        place.require_equal_hosts("accelerate")
        node, layout, meeting = place.node, place.layout, place.meeting
        several = ("--multi_gpu",) if layout.world_size > 1 else ()
        argv = (
            *(node.python, "-m", "accelerate.commands.launch", *several),
            *("--num_processes", str(layout.world_size), "--num_machines", str(layout.num_nodes)),
            *("--machine_rank", str(node.node_rank), "--rdzv_backend", "static"),
            *("--main_process_ip", meeting.master_addr),
            *("--main_process_port", str(meeting.master_port)),
            *("--mixed_precision", "no", "--dynamo_backend", "no", "--no_python"),
            *place.rank_shim(),
            *place.command(),
        )
        # Without a GPU each rank would train alone, and say nothing.
        device = {} if node.gpus else {"ACCELERATE_USE_CPU": "true"}
        env = {**place.threads(), **device, **place.env}
        return (Process(str(ProcessKey.of_node(node.node_rank)), None, argv, env),)
