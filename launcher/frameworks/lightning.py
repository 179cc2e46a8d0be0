"""lightning: one process a rank, in the environment by which Lightning knows that others started it.

Lightning starts nothing itself then. ``Trainer(devices=..., num_nodes=...)`` has to say what the run
has: ``{{local_world_size}}`` and ``{{num_nodes}}`` in the arguments do. It works under torchrun as well.
"""

from __future__ import annotations

from ..spec.model import Process
from .base import Place
from .torch import Torch


class Lightning(Torch):
    """torch's variables, of which Lightning reads MASTER_ADDR, MASTER_PORT, NODE_RANK and LOCAL_RANK.

    Source: https://lightning.ai/docs/pytorch/stable/clouds/cluster_intermediate_1.html
    """

    name = "lightning"
    about = "one process a rank, which Lightning's Trainer takes as they are"
    imports = ("torch", "lightning", "pytorch_lightning")

    def processes(self, place: Place) -> tuple[Process, ...]:
        """One process a rank. Raises PlanError for hosts with different numbers of them: Lightning
        computes ranks as node times devices."""
        place.require_equal_hosts("Lightning")
        return super().processes(place)
