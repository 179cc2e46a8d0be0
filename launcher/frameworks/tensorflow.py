"""tensorflow: one process per task, each with its TF_CONFIG.

The hosts have found a free port for every task just before the start.
"""

from __future__ import annotations

import json

from ..spec.addresses import endpoint
from ..spec.model import Node, Process, Task
from .base import Cast, Framework, Place

#: The role of every process of a job without roles.
WORKER = "worker"


def _primaries(names: frozenset[str]) -> frozenset[str]:
    """Return the roles that end a run: all that train, but never an evaluator.

    With parameter servers only the chief: servers and workers wait for ever in ``server.join()``.
    """
    trainers = names - {"ps", "evaluator"}
    chiefs = trainers & {"chief", "master"}
    return chiefs if chiefs and "ps" in names else trainers


class TensorFlow(Framework):
    """For MultiWorkerMirroredStrategy and ParameterServerStrategy; without roles, all are workers.

    Source: https://www.tensorflow.org/guide/distributed_training#setting_up_tf_config
    """

    name = "tensorflow"
    about = "one process per task with TF_CONFIG: chief, worker, ps, evaluator"
    computed = frozenset({"TF_CONFIG", "CUDA_VISIBLE_DEVICES"})
    imports = ("tensorflow",)
    allreduce = "tensorflow"
    meets_by = "/tensorflow/libtensorflow"
    cast = Cast(
        most={"chief": 1, "master": 1, "worker": None, "ps": None, "evaluator": 1},
        primaries=_primaries,
    )

    def ports(self, node: Node) -> int:
        """Return one port for each task, which listens on it."""
        return node.local_world_size

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per task."""
        cluster: dict[str, dict[int, str]] = {}
        for node in place.layout.nodes:
            address = place.meeting.address_of(node.host)
            free = place.meeting.ports.get(node.host.name)
            for number, task in enumerate(place.tasks(node)):
                port = free[number] if free else place.meeting.master_port
                cluster.setdefault(task.role or WORKER, {})[task.index] = endpoint(address, port)
        whole = {kind: [found[index] for index in sorted(found)] for kind, found in cluster.items()}
        # The evaluator is not part of the cluster, or the others would wait for it.
        training = {kind: addresses for kind, addresses in whole.items() if kind != "evaluator"}
        made = []
        for task in place.tasks():
            kind = task.role or WORKER
            seen = whole if kind == "evaluator" else training
            config = {"cluster": seen, "task": {"type": kind, "index": task.index}}
            env = {"TF_CONFIG": json.dumps(config), **_gpus(place, task.gpus)}
            made.append(place.process(task, {**_threads(place, task), **env}))
        return tuple(made)


def _gpus(place: Place, gpus: tuple[int, ...]) -> dict[str, str]:
    """Return the variable that hides other tasks' GPUs: TensorFlow takes every GPU that it sees."""
    return place.node.visible(gpus) if place.node.gpus else {}


def _threads(place: Place, task: Task) -> dict[str, str]:
    """Return the variable that gives a task with one core two threads between operations.

    By default TensorFlow makes one, on which a worker can deadlock: a request of the coordinator
    occupies it while waiting for a function that needs a thread too (seen in 2.21, in
    ``KernelAndDeviceFunc::Run`` below ``EnqueueHandler``).
    """
    one = task.role and place.job.role(task.role).at(task.index).resources.cpus == 1
    chosen = {"TF_NUM_INTEROP_THREADS": "2"} if one else {}
    return {name: place.env.get(name, value) for name, value in chosen.items()}
