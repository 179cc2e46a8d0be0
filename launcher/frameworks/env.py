"""env: the command once a node, which starts its own ranks from the variables that it finds.

RANK is the rank of the *node* here, as VESSL defines it.
"""

from __future__ import annotations

from dataclasses import replace

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from .base import Cast, Framework, Place


class Env(Framework):
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
    allreduce = "torch"

    cast = Cast(own_ranks=True)

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One process a node; with roles, one a process of a role, which counts as a node then."""
        node, layout = place.node, place.layout
        if not node.tasks:
            env = self._env(place, layout.num_nodes, node.local_world_size, node.node_rank)
            return (Process(str(ProcessKey.of_node(node.node_rank)), None, place.command(), env),)
        order = [task for other in layout.nodes for task in other.tasks]
        processes = (
            place.process(task, self._env(place, len(order), task.size, order.index(task)))
            for task in node.tasks
        )
        return tuple(replace(process, rank=None) for process in processes)

    def _env(self, place: Place, nodes: int, trainers: int, rank: int) -> dict[str, str]:
        return {
            **place.env,
            "NUM_NODES": str(nodes),
            "NUM_TRAINERS": str(trainers),
            "RANK": str(rank),
            "NODE_RANK": str(rank),
            "MASTER_ADDR": place.meeting.master_addr,
            "MASTER_PORT": str(place.meeting.master_port),
        }
