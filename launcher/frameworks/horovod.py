"""horovod: ``horovodrun`` on the first host, with Horovod's gloo controller.

horovodrun gets no secrets, since it passes its whole environment on as arguments; ranks get them
from their own host. Every rank has its own log and exit status, as with all frameworks.
"""

from __future__ import annotations

from ..spec.model import Process
from . import rsh
from .base import Framework, Need, Place

COMPUTED = frozenset(
    {
        "HOROVOD_RANK",
        "HOROVOD_SIZE",
        "HOROVOD_LOCAL_RANK",
        "HOROVOD_LOCAL_SIZE",
        "HOROVOD_CROSS_RANK",
        "HOROVOD_CROSS_SIZE",
        "HOROVOD_HOSTNAME",
        "HOROVOD_CONTROLLER",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR",
        "HOROVOD_GLOO_RENDEZVOUS_PORT",
        "CUDA_VISIBLE_DEVICES",
    }
)

#: Horovod is built for one version of torch, so that `pip install` alone is rarely enough.
HOROVOD = Need(
    "horovod",
    "horovod",
    "launcher bootstrap --with horovod builds it for the torch there, or set python: in the "
    "inventory to one that has it",
)


def environment(place: Place) -> dict[str, str]:
    """Return the variables of a node's ranks, which override those that horovodrun sends to all hosts.

    They name the host's own interface, and the address at which all hosts reached the head node.
    """
    own = rsh.interface(place)
    chosen = {"HOROVOD_GLOO_IFACE": own} if own else {}
    found = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": place.meeting.master_addr}
    return {**place.threads(), **chosen, **place.env, **found}


def horovodrun(place: Place, controller: str, *options: str) -> tuple[str, ...]:
    """Return the command line of horovodrun over all hosts: ``controller`` is --gloo or --mpi."""
    own = rsh.interface(place)
    return (
        place.node.python,
        "-m",
        "horovod.runner.launch",
        "-np",
        str(place.layout.world_size),
        "-H",
        rsh.slots(place.layout),
        controller,
        "--disable-cache",
        *options,
        *place.job.launcher_options,
        *(("--network-interfaces", own) if own else ()),
        *rsh.rank_command(place),
    )


class Horovod(Framework):
    """For scripts that call ``horovod.torch``, ``.tensorflow`` and so on.

    Source: https://horovod.readthedocs.io/en/stable/running_include.html
    """

    name = "horovod"
    about = "horovodrun (gloo) on the first host, which starts the ranks on all hosts"
    computed = COMPUTED
    needs = (HOROVOD,)
    allreduce = "horovod"
    ip_versions = frozenset({4})
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return horovodrun on the first host, and on the others the peer that runs its ranks."""
        return rsh.processes(place, horovodrun(place, "--gloo"), environment(place))
