"""horovod-mpi: ``horovodrun`` on the first host, with MPI as Horovod's controller.

Not responsible for how mpirun reaches the other hosts: that is as in :mod:`launcher.frameworks.mpi`.
"""

from __future__ import annotations

from ..model import Process
from . import joined, mpi
from .base import Need, Place
from .horovod import COMPUTED, HOROVOD


class HorovodMpi:
    """For the same scripts as ``horovod``, where Open MPI is and Horovod was built with it.

    Source: horovod.runner.mpi_run, and https://horovod.readthedocs.io/en/stable/mpi_include.html
    """

    name = "horovod-mpi"
    about = "horovodrun (Open MPI) on the first host, which starts the ranks on all of them"
    computed = COMPUTED
    shell = False
    needs = (
        HOROVOD,
        mpi.MPIRUN,
        Need(
            "linked:horovod:libmpi",
            "a horovod that was built with MPI",
            "launcher bootstrap --with openmpi --with horovod; or --framework horovod, which needs "
            "no MPI",
        ),
    )
    allreduce = "horovod"
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """horovodrun, which becomes mpirun, and on the other hosts what runs its daemons."""
        own = joined.interface(place)
        argv = (
            *(place.node.python, "-m", "horovod.runner.launch"),
            *("-np", str(place.layout.world_size), "-H", joined.slots(place.layout)),
            *("--mpi", "--disable-cache", f"--mpi-args={' '.join(mpi.SETTINGS)}"),
            # mpirun tells it to all hosts; each rank goes back to that of its own (agent/rank.py).
            *(("--network-interfaces", own) if own else ()),
            *joined.rank_command(place),
        )
        return joined.processes(place, argv, mpi.environment(place))
