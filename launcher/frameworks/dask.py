"""dask: a scheduler on the first host, a worker for each rank, and the command beside the scheduler.

``Client()`` in the command finds the scheduler by DASK_SCHEDULER_ADDRESS.
"""

from __future__ import annotations

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
        workers = {
            node.host.name: (
                *(
                    "sh",
                    "-c",
                    _IN_RUN,
                    "dask",
                    "python",
                    "-m",
                    "distributed.cli.dask_worker",
                    scheduler,
                ),
                *("--host", place.meeting.address_of(node.host), "--no-dashboard"),
                *("--nworkers", str(node.local_world_size), "--nthreads", "1"),
                *("--death-timeout", "60"),
            )
            for node in place.layout.nodes
        }
        joined = ("python", "-c", _JOINED, scheduler, str(place.layout.world_size))
        return Parts(head, workers, joined, {"DASK_SCHEDULER_ADDRESS": scheduler})
