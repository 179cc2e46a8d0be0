"""dask: a scheduler on the first host, a worker for each rank, and the command beside the scheduler.

``Client()`` in the command finds the scheduler by DASK_SCHEDULER_ADDRESS.
"""

from __future__ import annotations

from ..spec.model import Node
from .base import Place
from .cluster import Cluster, Parts, meeting_point

#: What workers spill goes with the run.
_IN_RUN = 'DASK_LOGGING__DISTRIBUTED=warning exec "$@" --local-directory "$LAUNCHER_RUN_DIR/dask"'
_JOINED = (
    "import sys; from distributed import Client; "
    "Client(sys.argv[1], timeout=120).wait_for_workers(int(sys.argv[2]))"
)


class Dask(Cluster):
    """For programs that call ``dask.distributed.Client()``.

    Source: ``dask scheduler --help`` and ``dask worker --help`` of distributed 2026.8.
    """

    name = "dask"
    about = (
        "a Dask scheduler on the first host, workers on all, and the command beside the scheduler"
    )
    computed = frozenset({"DASK_SCHEDULER_ADDRESS", "HOSTS", "SLOTS", "CUDA_VISIBLE_DEVICES"})
    modules = ("distributed",)

    def parts(self, place: Place) -> Parts:
        """Return a scheduler, and workers that leave as soon as it does."""
        address, port, dashboard = meeting_point(place)
        scheduler = f"tcp://{f'[{address}]' if ':' in address else address}:{port}"
        head = (
            *("python", "-m", "distributed.cli.dask_scheduler", "--host", address, "--port", port),
            *("--dashboard-address", f"127.0.0.1:{dashboard}"),
        )
        workers = tuple(
            (node.host.name, _worker(place, node, scheduler, gpus, count))
            for node in place.layout.nodes
            for gpus, count in _workers(node)
        )
        joined = ("python", "-c", _JOINED, scheduler, str(place.layout.world_size))
        return Parts(head, workers, joined, {"DASK_SCHEDULER_ADDRESS": scheduler})


def _worker(
    place: Place, node: Node, scheduler: str, gpus: tuple[int, ...], count: int
) -> tuple[str, ...]:
    """Return the command for so many workers of a node, which see these GPUs alone."""
    sees = [f"{name}={value}" for name, value in node.visible(gpus).items()] if gpus else []
    return (
        *(("env", *sees) if sees else ()),
        *("sh", "-c", _IN_RUN, "dask"),
        *("python", "-m", "distributed.cli.dask_worker", scheduler),
        *("--host", place.meeting.address_of(node.host), "--no-dashboard"),
        *("--nworkers", str(count), "--nthreads", "1"),
        *("--death-timeout", "60"),
    )


def _workers(node: Node) -> list[tuple[tuple[int, ...], int]]:
    """Return the commands for workers of a node: the GPUs of each, and how many workers it starts.

    With GPUs it is one for each rank, since torch takes the first GPU that a process sees.
    """
    ranks, gpus = node.local_world_size, node.gpus
    if not gpus:
        return [((), ranks)]
    each = max(1, len(gpus) // ranks)
    return [
        (gpus[start : start + each], 1)
        for start in (rank * each % len(gpus) for rank in range(ranks))
    ]
