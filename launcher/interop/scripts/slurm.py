"""Export a job as a batch file for Slurm, whose srun numbers the processes.

Source of the variables: srun(1) of Slurm, "OUTPUT ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

from collections.abc import Mapping

from ...jobs import placeholders
from ...spec.environments import Environment
from ...spec.errors import InputError
from ...spec.inventory_writer import comment
from ...spec.model import Job
from . import shell

_FRAMEWORKS = ("torchrun", "torch", "env")
_NODE = {
    "NODE_RANK": "$SLURM_NODEID",
    "NUM_NODES": "$SLURM_NNODES",
    "RANK_OFFSET": "$((SLURM_NODEID * EACH))",
    "WORLD_SIZE": "$((SLURM_NNODES * EACH))",
    "LOCAL_WORLD_SIZE": "$EACH",
}
#: Variables of the processes, by framework; torchrun sets those of its own ranks.
_EXPORTED: Mapping[str, Mapping[str, str]] = {
    "torchrun": {},
    "torch": {
        "RANK": "$SLURM_PROCID",
        "LOCAL_RANK": "$SLURM_LOCALID",
        "WORLD_SIZE": "$WORLD_SIZE",
        "LOCAL_WORLD_SIZE": "$EACH",
        "NODE_RANK": "$SLURM_NODEID",
        "GROUP_RANK": "$SLURM_NODEID",
        "GROUP_WORLD_SIZE": "$SLURM_NNODES",
    },
    "env": {
        "NUM_NODES": "$SLURM_NNODES",
        "NUM_TRAINERS": "$EACH",
        "RANK": "$SLURM_NODEID",
        "NODE_RANK": "$SLURM_NODEID",
    },
}
#: srun exits with the highest code of all tasks. Those that it stops because another one failed would
#: exit with 143 (SIGTERM); they exit with 0 instead, so that the job has the code of the failed task.
#: Slurm signals one process after the other, so the shell may get the signal just after the rank.
_SHIELD = "code=0; trap 'stopped=1' TERM"
_END = '[ "$code" != 143 ] || sleep 1 || :\n[ -z "${stopped-}" ] || exit 0\nexit "$code"'
#: Placeholders, and the variables of the batch file with their values.
_TOKENS = {
    "node_rank": "NODE_RANK",
    "num_nodes": "NUM_NODES",
    "rank_offset": "RANK_OFFSET",
    "local_world_size": "LOCAL_WORLD_SIZE",
    "world_size": "WORLD_SIZE",
    "master_addr": "MASTER_ADDR",
    "master_port": "MASTER_PORT",
    "outputs": "LAUNCHER_OUTPUT_DIR",
}


def sbatch(job: Job) -> tuple[str, list[str]]:
    """Return the batch file, and notes on what it does not do. Raises InputError."""
    _check(job)
    nodes = job.num_nodes or 1
    gpus = (job.resources.gpus or 0) // nodes
    kind = f"{job.resources.gpu_model.lower()}:" if job.resources.gpu_model else ""
    each = job.resources.nproc_per_node or gpus or None
    if job.framework == "torch":  # srun starts the ranks, so their number must be known now
        each = each or 1
    a_node = each if job.framework == "torch" and each else 1
    notes = shell.left_out(job)
    if job.hosts:
        notes.append("Slurm chooses the hosts: --hosts is left out")
    if each is None:
        notes.append("one process per GPU that Slurm allocates on a node, or one without GPUs")
    low, high = job.master_port
    head = [
        "#!/bin/bash",
        comment(
            "Written by: launcher export slurm. Submit it from the folder of the code with sbatch."
        ),
        f"#SBATCH --job-name={job.name or 'job'}",
        f"#SBATCH --nodes={nodes}",
        f"#SBATCH --ntasks-per-node={a_node}",
        *([f"#SBATCH --gpus-per-node={kind}{gpus}"] if gpus else []),
        "#SBATCH --output=%x-%j.out",
        *(comment(note) for note in notes),
        *(f"module load {shell.plain(name)}" for name in job.modules),
        *(_activation(job.environment) if job.environment else []),
        *([job.prepare] if job.prepare else []),
        "set -eu",
        *shell.require_secrets(job),
        *shell.exports(job.envs),
        "export PYTHONUNBUFFERED=1",
        f"export LAUNCHER_EACH={each or '${SLURM_GPUS_ON_NODE:-1}'}",
        'export LAUNCHER_OUTPUT_DIR="${SLURM_SUBMIT_DIR:-$PWD}/outputs-$SLURM_JOB_ID"',
        'mkdir -p "$LAUNCHER_OUTPUT_DIR"',
        f"export MASTER_PORT={low if low == high else f'$(({low} + SLURM_JOB_ID % {high - low + 1}))'}",
    ]
    if job.master_addr:
        head.append(f"export MASTER_ADDR={shell.plain(job.master_addr)}")
    else:
        head.append('names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")')
        head.append('export MASTER_ADDR="${names%%[!A-Za-z0-9._-]*}"')
    if job.setup:
        head.append(f"srun --ntasks-per-node=1 --ntasks={nodes} bash -ec {shell.plain(job.setup)}")
    started = f"srun --kill-on-bad-exit=1 --ntasks-per-node={a_node} bash -ec"
    return "\n".join([*head, f"{started} {shell.plain(_node_part(job))}", ""]), notes


def _check(job: Job) -> None:
    if job.framework not in _FRAMEWORKS:
        raise InputError(
            f"{job.framework} cannot be started by srun alone",
            f"{', '.join(_FRAMEWORKS)} can be exported",
        )
    if job.roles:
        raise InputError(
            "roles cannot be exported: srun starts the same command on every node",
            "use launcher export script",
        )
    if job.elastic is not None:
        raise InputError("an elastic job cannot be exported", "--nodes with one number")
    gpus, nodes = job.resources.gpus, job.num_nodes
    if gpus and nodes is None:
        raise InputError(
            f"gpus: {gpus} does not tell Slurm how many nodes to allocate", "num_nodes: in the job"
        )
    if gpus and nodes and gpus % nodes:
        raise InputError(
            f"gpus: {gpus} is the total and cannot be split evenly over num_nodes: {nodes}",
            f"gpus: {gpus - gpus % nodes or nodes}, or {gpus - gpus % nodes + nodes}",
        )


def _node_part(job: Job) -> str:
    """Return the script that srun starts: once per node, or per rank for torch."""
    lines = ['EACH="$LAUNCHER_EACH"', *(f'{name}="{value}"' for name, value in _NODE.items())]
    lines += [f'export {k}="{v}"' for k, v in _EXPORTED[job.framework].items()]
    if job.framework == "torchrun":
        head = '-m torch.distributed.run --nnodes="$SLURM_NNODES" --nproc-per-node="$EACH"'
        head += ' --node-rank="$SLURM_NODEID" --master-addr="$MASTER_ADDR"'
        head = f'"${{PYTHON:-python3}}" {head} --master-port="$MASTER_PORT" --no-python '
        lines.append("export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}")
    else:
        head = ""
    return "\n".join([*lines, _SHIELD, f"{head}{_command(job)} || code=$?", _END])


def _command(job: Job) -> str:
    variables = dict(_TOKENS)
    if job.framework == "torch":
        variables |= {"rank": "RANK", "local_rank": "LOCAL_RANK"}
    elif unknown := placeholders.used(job.run) & placeholders.OF_A_RANK:
        raise InputError(
            f"{{{{{min(unknown)}}}}} is not known before the ranks start",
            "framework: torch, or $RANK in the script",
        )
    values = {token: shell.hole(variable) for token, variable in variables.items()}
    words = placeholders.render(job.run, values, _first_host)
    if job.shell:
        return f"bash -ec {shell.plain(words[0])}"
    is_python = words[0] == "-m" or words[0].endswith(".py")
    return ('"${PYTHON:-python3}" ' if is_python else "") + shell.join(words)


def _activation(environment: Environment) -> list[str]:
    """Return lines that activate an environment, by the conda that the submitting shell has on PATH."""
    if environment.recipe:
        raise InputError(
            f"{environment.builder}: {environment.recipe}: a batch file builds no environment",
            "build it first, and name its folder: --venv DIR",
        )
    if environment.image:
        raise InputError(
            f"a batch file starts no containers, and the job runs in {environment}",
            "launcher run starts it; or export it without image:, for srun --container-image",
        )
    place = environment.conda or environment.venv
    tilde, rest = ('"$HOME"', place[1:]) if place.startswith("~/") else ("", place)
    word = tilde + shell.plain(rest)
    if environment.venv:
        return [f". {word}/bin/activate"]
    return ['eval "$(conda shell.bash hook)"', f"conda activate {word}"]


def _first_host(name: str) -> str:
    if name in ("node", "node.0"):
        return shell.hole("MASTER_ADDR")
    raise InputError(
        f"{{{{host:{name}}}}} is not known before Slurm has chosen the hosts", "{{host:node.0}}"
    )
