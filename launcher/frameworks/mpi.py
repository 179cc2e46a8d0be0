"""mpi: Open MPI's ``mpirun`` on the first host, which reaches the others through the agents.

Every rank has its own log and exit status, as with all frameworks.
"""

from __future__ import annotations

from ..spec.model import Process
from . import rsh
from .base import Framework, Need, Place

# Open MPI refuses to run as root unless both variables are set.
_AS_ROOT = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
_MPIRUN = f'[ "$(id -u)" != 0 ] || export {_AS_ROOT}; exec mpirun "$@"'

#: MCA parameters with which mpirun's daemons are started, and stopped, by the agents.
_MCA = {
    "plm_rsh_agent": "ssh",
    "plm_rsh_no_tree_spawn": "1",  # or the other hosts would call ssh as well
    "plm_rsh_pass_environ_mca_params": "0",  # interfaces have other names on other hosts
}
#: The options of mpirun that every run needs.
SETTINGS = (
    "--leave-session-attached",  # a daemon exits with the process that called it
    *(word for name, value in _MCA.items() for word in ("--mca", name, value)),
)
MPIRUN = Need(
    "program:mpirun",
    "Open MPI's mpirun",
    "launcher bootstrap --with openmpi, or apt-get install openmpi-bin there",
)


def environment(place: Place) -> dict[str, str]:
    """Return the variables of a node's ranks and MPI daemon; they name the host's own interface."""
    own = rsh.interface(place)
    names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include")
    chosen = dict.fromkeys(names, own) if own else {}
    hosts = [place.meeting.address_of(node.host) for node in place.layout.nodes]
    if len(set(hosts)) < len(hosts):  # hosts on one machine: their ranks crash in its shared memory
        chosen["OMPI_MCA_btl"] = "self,tcp"
        # Their daemons would share a session folder, which the first one to exit removes.
        chosen["OMPI_MCA_orte_tmpdir_base"] = f"{place.env['LAUNCHER_RUN_DIR']}/mpi"
    return {**place.threads(), **chosen, **place.env}


class Mpi(Framework):
    """For programs that call MPI_Init, mpi4py among them.

    Source: mpirun(1) of Open MPI 4.1, and ``ompi_info --param plm rsh --level 9``.
    """

    name = "mpi"
    about = "mpirun (Open MPI) on the first host, which starts the ranks on all hosts"
    computed = frozenset({"CUDA_VISIBLE_DEVICES"})
    needs = (MPIRUN,)
    allreduce = "mpi"
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return mpirun on the first host, and on the others the peer that runs its daemons."""
        options = place.job.launcher_options
        # Two runs on one host would share the first cores.
        is_bound = any(
            word.startswith(("--bind-to", "--cpu-set", "--cpu-list")) for word in options
        )
        argv = (
            "/bin/sh",
            "-c",
            _MPIRUN,
            "mpirun",
            "-np",
            str(place.layout.world_size),
            "-H",
            rsh.slots(place.layout),
            "--map-by",
            "slot",
            *(() if is_bound else ("--bind-to", "none")),
            *SETTINGS,
            *options,
            *rsh.rank_command(place),
        )
        return rsh.processes(place, argv, environment(place))
