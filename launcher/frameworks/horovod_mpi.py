"""horovod-mpi: ``horovodrun`` on the first host, with MPI as Horovod's controller."""

from __future__ import annotations

from ..spec.model import Process
from . import mpi, rsh
from .base import Framework, Need, Place
from .horovod import COMPUTED, HOROVOD, horovodrun


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
        # mpirun sends its settings to all hosts; rank_shim.py sets each rank's back to its host's.
        argv = horovodrun(place, "--mpi", f"--mpi-args={' '.join(mpi.SETTINGS)}")
        return rsh.processes(place, argv, mpi.environment(place))
