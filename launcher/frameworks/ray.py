"""ray: a Ray node on each host, its head on the first one, and the command there.

``ray.init()`` in the command finds the cluster by RAY_ADDRESS.
"""

from __future__ import annotations

from ..spec.model import Node
from .base import Place
from .cluster import Cluster, Parts, meeting_point

_JOINED = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.2)
"""


class Ray(Cluster):
    """For programs that call ``ray.init()``: Ray Train and Tune, vLLM, verl.

    Source: ``ray start --help`` of Ray 2.60.
    """

    name = "ray"
    about = "a Ray node on every host, and the command on the first one, which is the head"
    computed = frozenset({"RAY_ADDRESS", "HOSTS", "SLOTS", "CUDA_VISIBLE_DEVICES"})
    modules = ("ray",)
    ip_versions = frozenset({4})

    def parts(self, place: Place) -> Parts:
        """Return nodes that stay in the foreground, so that they end with the run."""
        address, port, dashboard = meeting_point(place)
        start = ("python", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
        first, *others = place.layout.nodes
        head = (
            *(*start, "--head", f"--port={port}", f"--node-ip-address={address}"),
            f"--dashboard-port={dashboard}",
            *("--dashboard-host=127.0.0.1", *_resources(first)),
        )
        workers = {
            node.host.name: (
                *(*start, f"--address={address}:{port}"),
                f"--node-ip-address={place.meeting.address_of(node.host)}",
                *_resources(node),
            )
            for node in others
        }
        joined = ("python", "-c", _JOINED, f"{address}:{port}", str(place.layout.num_nodes))
        return Parts(head, workers, joined, {"RAY_ADDRESS": f"{address}:{port}"})


def _resources(node: Node) -> tuple[str, ...]:
    """Return the options for the GPUs of a node; without any, a processor for each rank."""
    gpus = len(node.gpus)
    return (f"--num-gpus={gpus}", *(() if gpus else (f"--num-cpus={node.local_world_size}",)))
