"""ray: a Ray node on each host, its head on the first one, and the command there.

``ray.init()`` in the command finds the cluster by RAY_ADDRESS.
"""

from __future__ import annotations

from ..spec.model import Node
from .base import Place
from .cluster import PATIENCE, Cluster, Parts, meeting_point

_JOINED = """
import sys, time, ray
while not ray.is_initialized():
    try:
        ray.init(sys.argv[1], log_to_driver=False)
    except ConnectionError:  # of a head that has not come up; who waits for this has a limit
        ray.shutdown()
        time.sleep(0.2)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(0.2)
"""
#: Ray serves its own client where grpc is installed, at one port for all heads of a host unless they
#: are told another; it refuses a port where grpc is missing.
_HEAD = """
import runpy, sys
from importlib.util import find_spec
client = sys.argv.pop(1)
if find_spec("grpc"):
    sys.argv.append(f"--ray-client-server-port={client}")
runpy.run_module("ray.scripts.scripts", run_name="__main__", alter_sys=True)
"""
#: Ray gives up on a head that has not come up in 20 seconds, and on a busy host it needs more.
_PATIENTLY = ("env", f"RAY_NUM_REDIS_GET_RETRIES={PATIENCE}")
#: Ports that Ray takes on every node: any that are free, so that no other cluster has them.
_ANY_PORTS = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")


class Ray(Cluster):
    """For programs that call ``ray.init()``: Ray Train and Tune, vLLM, verl.

    Source: ``ray start --help`` of Ray 2.60.
    """

    name = "ray"
    about = "a Ray node on every host, and the command on the first one, which is the head"
    computed = frozenset({"RAY_ADDRESS", "HOSTS", "SLOTS", "CUDA_VISIBLE_DEVICES"})
    modules = ("ray",)
    ip_versions = frozenset({4})
    head_ports = 3  # and that of Ray's client

    def parts(self, place: Place) -> Parts:
        """Return nodes that stay in the foreground, so that they end with the run."""
        address, port, dashboard = meeting_point(place)
        start = ("start", "--block", "--disable-usage-stats", *_ANY_PORTS)
        first, *others = place.layout.nodes
        client = str((*place.meeting.ports.get(first.host.name, ()), 0, 0, 0)[2])
        head = (
            *(*_PATIENTLY, "python", "-c", _HEAD, client, *start),
            *("--head", f"--port={port}", f"--node-ip-address={address}"),
            f"--dashboard-port={dashboard}",
            *("--dashboard-host=127.0.0.1", *_resources(first)),
        )
        worker = (*_PATIENTLY, "python", "-m", "ray.scripts.scripts", *start)
        workers = tuple(
            (
                node.host.name,
                (
                    *(*worker, f"--address={address}:{port}"),
                    f"--node-ip-address={place.meeting.address_of(node.host)}",
                    *_resources(node),
                ),
            )
            for node in others
        )
        count = str(place.layout.num_nodes)
        joined = (*_PATIENTLY, "python", "-c", _JOINED, f"{address}:{port}", count)
        return Parts(head, workers, joined, {"RAY_ADDRESS": f"{address}:{port}"})


def _resources(node: Node) -> tuple[str, ...]:
    """Return the options for the GPUs of a node; without any, a processor for each rank."""
    gpus = len(node.gpus)
    return (f"--num-gpus={gpus}", *(() if gpus else (f"--num-cpus={node.local_world_size}",)))
