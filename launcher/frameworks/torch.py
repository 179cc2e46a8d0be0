"""torch: one process per rank with torch's environment, without torchrun.

This starts faster, because no launcher imports torch before the ranks do.
"""

from __future__ import annotations

import posixpath
from typing import ClassVar

from ..spec.model import Process
from .base import Cast, Framework, Place

#: Part of the path of torch's library.
TORCH = "/torch/lib/libtorch"
COMPUTED = frozenset(
    {
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "NODE_RANK",
        "CUDA_VISIBLE_DEVICES",
        "TORCHELASTIC_ERROR_FILE",
    }
)


class Torch(Framework):
    """Ranks are children of the agent, which sees their exact exit codes and logs.

    Source of the variables: https://docs.pytorch.org/docs/stable/elastic/run.html. As with torchrun,
    each rank has a file of its own into which torch's ``@record`` writes why it failed.
    """

    name = "torch"
    about = "one process per rank with torch's environment, without torchrun"
    computed = COMPUTED
    imports: ClassVar[tuple[str, ...]] = ("torch",)
    allreduce = "torch"
    meets_by: ClassVar[str] = TORCH
    preloads = True
    cast: ClassVar[Cast | None] = Cast(shares_gpus=True)

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per rank; with roles, one per task."""
        node, meeting = place.node, place.meeting
        shared = {
            **place.threads(),
            **place.env,
            "WORLD_SIZE": str(place.layout.world_size),
            "LOCAL_WORLD_SIZE": str(node.local_world_size),
            "GROUP_RANK": str(node.node_rank),
            "NODE_RANK": str(node.node_rank),
            "GROUP_WORLD_SIZE": str(place.layout.num_nodes),
            "MASTER_ADDR": meeting.master_addr,
            "MASTER_PORT": str(meeting.master_port),
        }
        errors = posixpath.join(
            place.env["LAUNCHER_RUN_DIR"], "errors", f"attempt-{place.env['LAUNCHER_ATTEMPT']}"
        )
        return tuple(
            place.process(
                task,
                {
                    **shared,
                    "RANK": str(task.rank),
                    "LOCAL_RANK": str(local_rank),
                    "TORCHELASTIC_ERROR_FILE": posixpath.join(errors, f"{task.key}.json"),
                },
            )
            for local_rank, task in enumerate(place.tasks())
        )
