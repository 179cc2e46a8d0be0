"""horovod-mpi: ``horovodrun`` on the first host, with MPI as Horovod's controller."""

from __future__ import annotations

from ..spec.model import Process
from . import mpi, rsh
from .base import Framework, Need, Place
from .horovod import COMPUTED, HOROVOD


class HorovodMpi(Framework):
    """For the same scripts as ``horovod``, on hosts with Open MPI and a Horovod built with it.

    Source: horovod.runner.mpi_run, and https://horovod.readthedocs.io/en/stable/mpi_include.html
    """

    name = "horovod-mpi"
    about = "horovodrun (Open MPI) on the first host, which starts the ranks on all hosts"
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
        """Return horovodrun, which becomes mpirun, and on the other hosts the peer for its daemons."""
        own = rsh.interface(place)
        argv = (
            place.node.python,
            "-m",
            "horovod.runner.launch",
            "-np",
            str(place.layout.world_size),
            "-H",
            rsh.slots(place.layout),
            "--mpi",
            "--disable-cache",
            f"--mpi-args={' '.join(mpi.SETTINGS)}",
            # mpirun sends it to all hosts; rank_shim.py sets each rank's back to that of its host.
            *(("--network-interfaces", own) if own else ()),
            *rsh.rank_command(place),
        )
        return rsh.processes(place, argv, mpi.environment(place))
