"""horovod-mpi: ``horovodrun`` on the first host, with MPI as Horovod's controller."""

from __future__ import annotations

from ..spec.model import Process
from . import mpi, rsh
from .base import Framework, Need, Place
from .horovod import COMPUTED, HOROVOD


class HorovodMpi(Framework):
    """For the same scripts as ``horovod``, where Open MPI is and Horovod was built with it.

    Source: horovod.runner.mpi_run, and https://horovod.readthedocs.io/en/stable/mpi_include.html
    """

    name = "horovod-mpi"
    about = "horovodrun (Open MPI) on the first host, which starts the ranks on all of them"
    computed = COMPUTED
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
        own = rsh.interface(place)
        argv = (
            *(place.node.python, "-m", "horovod.runner.launch"),
            *("-np", str(place.layout.world_size), "-H", rsh.slots(place.layout)),
            *("--mpi", "--disable-cache", f"--mpi-args={' '.join(mpi.SETTINGS)}"),
            # mpirun tells it to all hosts; each rank goes back to that of its own (rank_shim.py).
            *(("--network-interfaces", own) if own else ()),
            *rsh.rank_command(place),
        )
        return rsh.processes(place, argv, mpi.environment(place))
