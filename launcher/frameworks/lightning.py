"""lightning: one process a rank, in the environment by which Lightning knows that others started it.

Lightning starts nothing itself then. ``Trainer(devices=..., num_nodes=...)`` has to say what the run
has: ``{{local_world_size}}`` and ``{{num_nodes}}`` in the arguments do. It works under torchrun as well.
"""

from __future__ import annotations

from ..errors import PlanError
from ..model import Process
from .base import Place
from .torch import Torch


class Lightning(Torch):
    """torch's variables, of which Lightning reads MASTER_ADDR, MASTER_PORT, NODE_RANK and LOCAL_RANK.

    Source: https://lightning.ai/docs/pytorch/stable/clouds/cluster_intermediate_1.html
    """

    name = "lightning"
    about = "one process a rank, which Lightning's Trainer takes as they are"

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One process a rank. Raises PlanError for hosts with different numbers of them: Lightning
        computes ranks as node times devices."""
        counts = {node.local_world_size for node in place.layout.nodes}
        if len(counts) > 1:
            told = ", ".join(f"{n.host.name} {n.local_world_size}" for n in place.layout.nodes)
            raise PlanError(
                f"Lightning wants as many processes on every host: {told}",
                "--nodes and --nproc-per-node, or --framework torch with a strategy of your own",
            )
        return super().processes(place)
