"""mxnet: a scheduler, servers and workers, which find each other by DMLC_* variables.

The scheduler and the servers only run ``import mxnet``; they exit when the workers have exited.
"""

from __future__ import annotations

from ..spec.model import Process
from .base import Cast, Framework, Place

_COUNTED = {"DMLC_NUM_SERVER": "server", "DMLC_NUM_WORKER": "worker"}


class MXNet(Framework):
    """For ``kvstore`` types ``dist_*``: the roles ``scheduler``, ``server`` and ``worker``.

    Source: https://mxnet.apache.org/versions/1.9.1/api/faq/distributed_training
    """

    name = "mxnet"
    about = "scheduler, servers and workers with DMLC_* variables"
    computed = frozenset(
        {"DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", *_COUNTED, "CUDA_VISIBLE_DEVICES"}
    )
    modules = ("mxnet",)
    allreduce = "mxnet"
    ip_versions = frozenset({4})
    cast = Cast(
        most={"scheduler": 1, "server": None, "worker": None},
        needs=("scheduler", "server", "worker"),
        first=("scheduler",),
    )

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per task; the scheduler listens at the master address and port."""
        everyone = [task for node in place.layout.nodes for task in node.tasks]
        meeting = place.meeting
        shared = {
            "DMLC_PS_ROOT_URI": meeting.master_addr,
            "DMLC_PS_ROOT_PORT": str(meeting.master_port),
            **{
                name: str(sum(task.role == role for task in everyone))
                for name, role in _COUNTED.items()
            },
        }
        # ps-lite takes the first interface that is up, which may be the wrong one, and never loopback.
        interface = meeting.interfaces.get(place.node.host.name)
        if interface and interface != "lo" and "DMLC_INTERFACE" not in place.env:
            shared["DMLC_INTERFACE"] = interface
        return tuple(
            place.process(task, {**shared, "DMLC_ROLE": task.role}) for task in place.tasks()
        )
