"""env: the command once a node, which starts its own ranks from the variables that it finds.

RANK is the rank of the *node* here, as VESSL defines it.
"""

from __future__ import annotations

from ..model import Process
from .base import Place


class Env:
    """For commands that call ``torch.distributed.launch`` or anything else themselves.

    Source: VESSL's distributed experiments (NUM_NODES, NUM_TRAINERS, RANK, MASTER_ADDR,
    MASTER_PORT).
    """

    name = "env"
    about = "the command once a node, with NUM_NODES, NUM_TRAINERS, RANK, MASTER_ADDR, MASTER_PORT"
    computed = frozenset(
        {"NUM_NODES", "NUM_TRAINERS", "RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
        | {"CUDA_VISIBLE_DEVICES"}
    )
    shell = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One process a node."""
        node = place.node
        env = {
            **place.env,
            "NUM_NODES": str(place.layout.num_nodes),
            "NUM_TRAINERS": str(node.local_world_size),
            "RANK": str(node.node_rank),
            "NODE_RANK": str(node.node_rank),
            "MASTER_ADDR": place.meeting.master_addr,
            "MASTER_PORT": str(place.meeting.master_port),
        }
        return (Process(f"node-{node.node_rank}", None, place.command(), env),)
