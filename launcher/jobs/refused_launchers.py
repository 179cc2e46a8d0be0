"""Programs that start ranks, or hand a script to a queue, and that nobody here takes apart: what to type
instead."""

from __future__ import annotations

_RANKS = (
    "give launcher what it starts: launcher run --nodes N --nproc-per-node M COMMAND; for a program "
    "of MPI, --framework mpi"
)
_QUEUES = (
    "launcher run --framework ssh bash SCRIPT starts it on the first host, where HOSTS and SLOTS name "
    "all of them; launcher reads only Slurm's options in scripts"
)
_EACH_HOST = (
    "launcher run --framework env --nodes N COMMAND, with what it starts, once on each host"
)
#: Programs whose containers have variables of their own.
CONTAINERS = ("docker run", "podman run", "nvidia-docker run")
#: By the first words of a command.
INSTEAD = {
    "srun": "launcher run --framework slurm --nodes N COMMAND, with what srun starts; a script that "
    "calls srun: launcher run job.sbatch",
    "sbatch": "launcher run job.sbatch reads its #SBATCH lines",
    "accelerate test": "accelerate launch -m accelerate.test_utils.scripts.test_script does the same",
    "accelerate-test": "accelerate launch -m accelerate.test_utils.scripts.test_script does the same",
    "axolotl train": "accelerate launch -m axolotl.cli.train CONFIG does the same",
    "colossalai run": "torchrun SCRIPT does the same: ColossalAI joins the ranks of torchrun",
    **dict.fromkeys(("jsrun", "lrun", "flux run", "aprun", "ibrun", "prun", "mpirun_rsh"), _RANKS),
    **dict.fromkeys(("pdsh", "clush", "pssh", "parallel-ssh"), _EACH_HOST),
    **dict.fromkeys(CONTAINERS, "--image NAME starts every rank in a container of it"),
    **dict.fromkeys(("qsub", "bsub", "flux batch", "condor_submit", "oarsub"), _QUEUES),
}
