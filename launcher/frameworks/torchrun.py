"""torchrun: ``python -m torch.distributed.run`` once a node, with static rendezvous.

Elastic restarts are not used: above 0 they hang one side of a static rendezvous.
"""

from __future__ import annotations

from ..model import Process
from .base import Place
from .torch import COMPUTED


class Torchrun:
    """The default: torch's own launcher, found by the host's Python and never by PATH.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html
    """

    name = "torchrun"
    about = "torch.distributed.run on every node, ranks started by it"
    computed = COMPUTED
    shell = False

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One torchrun; its ranks go through the shim, which gives each its own log and status."""
        node = place.node
        argv = (
            node.python,
            "-m",
            "torch.distributed.run",
            f"--nnodes={place.layout.num_nodes}",
            f"--nproc-per-node={node.local_world_size}",
            f"--node-rank={node.node_rank}",
            f"--master-addr={place.meeting.master_addr}",
            f"--master-port={place.meeting.master_port}",
            "--no-python",
            *place.rank_shim(),
            *place.command(),
        )
        return (Process(f"node-{node.node_rank}", None, argv, {**place.threads(), **place.env}),)
