"""lightning: one process per rank, in an environment in which Lightning starts no processes itself.

``Trainer(devices=..., num_nodes=...)`` must match the run: pass ``{{local_world_size}}`` and
``{{num_nodes}}`` as arguments. Lightning works under torchrun as well.
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
    about = "one process per rank, which Lightning's Trainer uses as they are"
    imports = ("torch", "lightning", "pytorch_lightning")

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per rank.

        Raises PlanError for unequal hosts: Lightning computes ranks as node rank times devices.
        """
        place.require_equal_hosts("Lightning")
        return super().processes(place)
