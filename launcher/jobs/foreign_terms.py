"""Commands, options and launchers of other systems, and their equivalents here."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NoReturn

from ..spec.errors import InputError, suggestion
from . import wrapped_commands
from .start_commands import CONTAINERS, INSTEAD

if TYPE_CHECKING:
    from .host_numbers import Numbered

_RUN = "launcher run SCRIPT, or launcher run job.yaml"
_SHOW = "launcher show RUN"
_END = "launcher stop RUN stops it, launcher rm RUN deletes it"
_SHELL = "launcher shell RUN"

#: Commands in the manuals of Run:ai, Grid, VESSL, OSMO, Polyaxon, SkyPilot and dstack.
COMMANDS = {
    **dict.fromkeys(("submit", "launch", "apply", "create", "start"), _RUN),
    "submit-mpi": "launcher run --framework horovod --gpus N SCRIPT (or --framework mpi)",
    "workflow": "launcher import osmo FILE -o job.yaml, then launcher run job.yaml; launcher show RUN",
    "experiment": "launcher run --nodes N SCRIPT (with --framework env, a command once per node)",
    **dict.fromkeys(("list", "ps", "jobs"), "launcher ls"),
    **dict.fromkeys(("get", "describe", "query"), _SHOW),
    "sbatch": "launcher run job.sbatch reads its #SBATCH lines; -d runs it in the background",
    "srun": "launcher run --framework slurm --nodes N SCRIPT: ranks find SLURM_PROCID and its like",
    "sacct": "launcher ls",
    **dict.fromkeys(("squeue", "qstat"), "launcher queue"),
    **dict.fromkeys(("sinfo", "nodes", "hosts"), "launcher gpus, or launcher inventory ls"),
    "login": "launcher check, or for bare hosts launcher bootstrap",
    **dict.fromkeys(("clean", "gc"), "launcher prune asks before it deletes; launcher df shows"),
    "history": "launcher ls",
    "info": _SHOW,
    "cat": "launcher logs RUN",
    **dict.fromkeys(("watch", "monitor"), "launcher attach RUN, or launcher top"),
    **dict.fromkeys(
        ("resume", "retry", "restart"),
        "launcher attach RUN follows one that runs; launcher rerun RUN --from-checkpoint",
    ),
    "cp": "launcher pull RUN [DEST], or launcher push DIR --hosts HOSTS",
    "tail": "launcher logs -f RUN",
    "scancel": _END,
    "status": f"launcher ls, or {_SHOW}",
    **dict.fromkeys(("delete", "cancel", "kill", "down"), _END),
    **dict.fromkeys(("bash", "ssh"), _SHELL),
    **dict.fromkeys(("artifacts", "download", "rsync-down"), "launcher pull RUN"),
    **dict.fromkeys(("projects", "quota"), "launcher project ls, or launcher project set NAME"),
    **dict.fromkeys(
        ("dataset", "datasets", "volume"),
        "launcher data add NAME FOLDER; then --data NAME, or data: in a job file",
    ),
    **dict.fromkeys(
        ("credentials", "secret"),
        "use secrets: in a job file, or --secret NAME; the value comes from your environment. "
        "For object stores: launcher credential set NAME",
    ),
    "hp": "launcher sweep SCRIPT --lr '[0.1, 0.01]'",
}

#: Commands that end or delete something: no typing mistake leads to them.
ENDING = ("rm", "stop", "prune")

_RANKS = "--gpus N chooses hosts and ranks; or give --nodes and --nproc-per-node"
_COMPUTED = "launcher computes it for every host; leave it out"
_IMAGE = "--image NAME starts everything in a container image"

#: Options of other systems that may come before a script.
OPTIONS = {
    **dict.fromkeys(("--processes", "--num-proc", "--num_processes", "--workers", "-np"), _RANKS),
    **dict.fromkeys(
        ("-g", "--gpu", "--gpus-per-node"), "did you mean --gpus N? (the total over all hosts)"
    ),
    **dict.fromkeys(("--nnodes", "--num-nodes", "--num_nodes", "--worker-count"), "--nodes N"),
    "--nproc_per_node": "--nproc-per-node N",
    **dict.fromkeys(("--node_rank", "--node-rank", "--machine_rank", "--rdzv-endpoint"), _COMPUTED),
    **dict.fromkeys(("--master_addr", "--main_process_ip"), "--master-addr, or leave it out"),
    **dict.fromkeys(("--master_port", "--main_process_port"), "--master-port, or leave it out"),
    "--framework-type": "--framework torchrun is the default",
    "--docker-image": _IMAGE,
    "--interactive": "launcher run --detach, then launcher shell RUN",
    **dict.fromkeys(("--command", "--args"), "put the command after the options"),
    **dict.fromkeys(
        ("--instance_type", "--instance-type", "--accelerator", "--node-type"),
        "choose machines with --hosts: by name, group or label",
    ),
    **dict.fromkeys(
        ("--credential_id", "--credential"), "--secret NAME passes it from your environment"
    ),
    "-p": "--project NAME, as launcher project ls shows them",
    **dict.fromkeys(
        ("-c", "--cpu", "--cpus", "--mem", "--memory", "--cpus-per-task"),
        "set resources: of a role in a job file",
    ),
    "-n": "-N N: hosts; --nproc-per-node N: processes on each; --gpus N: the total",
    **dict.fromkeys(
        ("-t", "--time-limit", "--timeout", "--walltime", "--duration"),
        "--time 6h ends a run six hours after its start",
    ),
    **dict.fromkeys(("--conda-env", "--mamba", "--micromamba", "--pixi"), "--conda NAME"),
    "--virtualenv": "--venv DIR",
    **dict.fromkeys(
        ("--host", "--nodelist", "-w", "--hostfile"), "--hosts NAMES, of the inventory"
    ),
    **dict.fromkeys(("--exclude", "-x"), "--hosts names those to use, such as 'gpu[1-3]'"),
    **dict.fromkeys(
        ("--partition", "--queue"),
        "choose hosts with --hosts; all who use them wait in one queue: launcher queue",
    ),
    **dict.fromkeys(("--immediate", "--nonblock"), "--no-wait fails at once where GPUs are in use"),
    "--nice": "--priority low lets others go first",
    **dict.fromkeys(("--gres", "--accelerators"), "--gpus A100:4, the total over all hosts"),
    "--modules": "--module cuda/12.4 (repeatable)",
}

#: Keys that people expect in a job file.
KEYS = {
    **dict.fromkeys(("command", "cmd", "entrypoint", "script", "args"), "run: train.py --epochs 3"),
    **dict.fromkeys(
        ("gpus", "accelerators", "num_gpus"),
        "resources: {gpus: 8}, the total over all hosts; of one model {gpus: A100:8}",
    ),
    **dict.fromkeys(
        ("cpus", "memory"), "resources: of a role, as roles: {worker: {resources: {cpus: 4}}}"
    ),
    **dict.fromkeys(
        ("nproc_per_node", "gpus_per_node"), "resources: {nproc_per_node: 4}, on each host"
    ),
    **dict.fromkeys(("pre_run", "before"), "prepare: before each process, or setup:"),
    **dict.fromkeys(
        ("time_limit", "timeout", "lease"),
        "time: 6h ends a run; orphan_timeout: 6h (--orphan-timeout) one that nobody follows",
    ),
    **dict.fromkeys(("image", "container", "docker"), "environment: {image: NAME}"),
    "no_check": "check: false",
    "exclude": "hosts: names those to use, such as gpu[1-3]",
    **dict.fromkeys(("conda", "mamba", "conda_env"), "environment: {conda: NAME}"),
    "module": "modules: [cuda/12.4]",
    **dict.fromkeys(("venv", "virtualenv"), "environment: {venv: DIR}"),
}

#: Programs that start ranks on their own, and the frameworks whose command they may be.
_EVERYWHERE = ("env", "ssh")
_LAUNCHERS = {
    "torch.distributed.launch": ("torchrun",),
    "horovodrun": ("horovod", "horovod-mpi", "horovod-direct"),
    "mpirun": ("mpi",),
    "mpiexec": ("mpi",),
    "srun": ("sbatch",),
    "sbatch": ("sbatch",),
    "composer": ("torch",),
    "accelerate test": (),
}
_MPI = "leave out --framework: launcher takes this command over; --framework ssh runs it as it is"
_INSTEAD = {**dict.fromkeys(("mpirun", "mpiexec", "horovodrun"), _MPI), **INSTEAD}
#: How the environment of a wrapper is named here.
_WRAPPED = {
    "uv run": "leave out uv run: --uv . builds the environment of uv.lock on every host",
    "pixi run": "leave out pixi run: --pixi . builds the environment of pixi.lock on every host",
    **dict.fromkeys(
        ("conda run", "mamba run", "micromamba run"),
        "leave it out: --conda NAME is the environment",
    ),
    **dict.fromkeys(
        ("poetry run", "pipenv run", "pdm run"),
        "leave it out: --venv DIR names the environment's folder on the hosts",
    ),
}
_TAKEN_OVER = (
    "leave out --framework: launcher takes this command over; --framework env runs it once per host"
)


def check_options(words: Sequence[str], known: Collection[str], command: str) -> None:
    """Raise InputError when ``words`` begin with an option that launcher does not have.

    ``-m`` is Python's. The error also names options of other systems that follow.
    """
    if not words[0].startswith("-") or words[0] in ("-m", "-", "--"):
        return
    unknown = [words[0].partition("=")[0]]
    for word in words:
        if word.endswith((".py", ".yaml", ".yml")):
            break
        name = word.partition("=")[0]
        if name in OPTIONS and name not in unknown:
            unknown.append(name)
    listed = f"launcher {command} --help lists the options"
    hints = [OPTIONS.get(name) or _like(name, known) or listed for name in unknown]
    if len(unknown) > 1:
        hints = [f"{name}: {hint}" for name, hint in zip(unknown, hints, strict=True)]
    several = "options" if len(unknown) > 1 else "option"
    raise InputError(
        f"launcher {command} has no {several} {', '.join(unknown)}", "\n        ".join(hints)
    )


def _like(name: str, known: Collection[str]) -> str:
    """Return a suggestion for an option; a single letter is like no other."""
    return suggestion(name, tuple(known)) if name.startswith("--") else ""


#: Options of `launcher run` that hardly any script has, though some have one of them.
_LAUNCHERS_OWN = frozenset(
    [
        "--gpus",
        "--gpu-ids",
        "--hosts",
        "--nodes",
        "--nproc-per-node",
        "--framework",
        "--inventory",
        "--detach",
        "--dry-run",
        "--max-restarts",
        "--min-nodes",
        "--no-check",
        "--lost-after",
        "--orphan-timeout",
        "--pull-every",
    ]
)
_WITHOUT_VALUE = frozenset({"--detach", "--dry-run", "--no-check"})


def as_sweep(words: Sequence[str]) -> list[str] | None:
    """Return the words of ``run --strategy grid_search ...``, which is how Grid spells a sweep, as those
    of ``sweep run``; None if they are no sweep. Raises InputError for another strategy."""
    own = next((at for at, word in enumerate(words) if _is_script(word)), len(words))
    found: list[str] = []
    sampler, options = "", [part for word in words[:own] for part in _parted(word)]
    while options:
        name = options.pop(0)
        if name == "--strategy":
            sampler = _sampler(options.pop(0) if options else "")
            found += ["--sampler", sampler]
        else:
            found.append("--max-trials" if name in ("--num_trials", "--num-trials") else name)
    return [*found, *words[own:]] if sampler else None


def _is_script(word: str) -> bool:
    return word == "--" or word.endswith((".py", ".yaml", ".yml", ".sh"))


def _parted(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name == "--strategy" else [word]


def _sampler(strategy: str) -> str:
    sampler = {"grid_search": "grid", "random_search": "random"}.get(strategy)
    if sampler is None:
        raise InputError(
            f"--strategy is {strategy or 'empty'}: grid_search or random_search",
            "launcher sweep train.py --lr '[0.1, 0.01]' is the same in our words",
        )
    return sampler


def behind_the_script(
    words: Sequence[str], command: str = "launcher run"
) -> tuple[str, str] | None:
    """Return an option of launcher that stands behind a script, and how it would be written; or None.

    The script gets it, which may well be meant.
    """
    script = next((at for at, word in enumerate(words) if word.endswith(".py")), len(words))
    if any(word.startswith("-") for word in words[:script]):
        return None
    found: list[str] = []
    for at, word in enumerate(words[script + 1 :], script + 1):
        name, equals, _ = word.partition("=")
        if name in _LAUNCHERS_OWN:
            value = words[at + 1 : at + 2] if not equals and name not in _WITHOUT_VALUE else ()
            found += [word, *(v for v in value if not v.startswith("-"))]
    if not found:
        return None
    given = shlex.join(found)
    return given, f"{command} {given} {shlex.join(words[: script + 1])}"


def command_error(name: str, known: Sequence[str]) -> InputError:
    """Return the error for a command that does not exist."""
    harmless = [other for other in known if other not in ENDING]
    hint = COMMANDS.get(name) or suggestion(name, harmless)
    return InputError(f'there is no command "{name}"', hint or "launcher --help lists the commands")


def check_command(run: Sequence[str], framework: str) -> None:
    """Raise InputError if every rank would start ranks of its own."""
    if framework in _EVERYWHERE:
        return
    name, inside = wrapped_commands.launcher(tuple(run))
    own = _LAUNCHERS.get(name, (name.partition(" ")[0],))
    if not name or (framework in own and not inside) or (framework == "sbatch" and "sbatch" in own):
        return
    if inside:
        hint = _WRAPPED.get(inside) or _once(name)
        raise _twice(f"{name} behind {inside}", framework, hint)
    raise _twice(name, framework, _INSTEAD.get(name, _TAKEN_OVER))


def check_script(found: wrapped_commands.Started, batch_script: str = "") -> None:
    """Raise InputError for a script that every rank would run, and that starts a launcher.

    ``batch_script`` is the one that was typed, if it is one of Slurm.
    """
    hint = f"launcher run {batch_script} reads its #SBATCH lines"
    hint = hint if batch_script else _once(found.name)
    raise InputError(
        f"{found.path}, line {found.line}: it starts {found.name}, and every rank would run it",
        f"{hint}; a framework that is named, as --framework torchrun, runs it as it is",
    )


def refuse_spawning(path: str, line: int, counts_machines: bool = False) -> NoReturn:
    """Raise InputError for a Python script that starts ranks of its own.

    Under torchrun they would wait: each rank of these takes the store of torchrun's for its own.
    """
    from .host_numbers import MACHINES

    told = MACHINES if counts_machines else ""
    raise InputError(
        f"{path}, line {line}: it starts ranks itself, and every rank would run it",
        f"--framework env starts it once per host{told}; a framework that is named, as "
        "--framework torchrun, runs it as it is",
    )


def refuse_numbered(found: Numbered, script: str = "", line: int = 0) -> NoReturn:
    """Raise InputError for a command, or one in a script, that is for one of several hosts."""
    where = f"{script}, line {line}: " if script else ""
    each = "rank" if found.of_ranks else "host"
    named = f"--nodes {found.count} --framework " + ("torch" if found.of_ranks else "env")
    raise InputError(
        f"{where}{found.option}: every {each} would be number {found.number} of {found.count}",
        "write $NNODES, $NODE_RANK, $MASTER_ADDR and $MASTER_PORT there, as --framework env sets them"
        if script
        else f"launcher run {named} {found.line}",
    )


def _once(name: str) -> str:
    """Return how a command that starts a launcher somewhere inside is started once."""
    if name in ("mpirun", "mpiexec", "horovodrun"):
        return "--framework ssh starts it on the first host only; -H $SLOTS names all hosts there"
    if name in INSTEAD and name not in ("srun", "sbatch"):
        return INSTEAD[name]
    if name in ("srun", "sbatch"):
        return "--framework sbatch starts it on the first host, where srun starts tasks on all"
    if name in ("torchrun", "torch.distributed.launch"):
        return "--framework env starts it once per host, where torchrun finds the other hosts"
    return f"--framework env starts it once per host; {name} typed by itself finds the other hosts"


def _twice(program: str, framework: str, hint: str) -> InputError:
    if program in CONTAINERS:
        return InputError(
            f"{program}: ranks in its container would not find RANK and its like", hint
        )
    return InputError(
        f"{program} starts ranks itself, and {framework} would start it once per rank", hint
    )


def importer(keys: Collection[str], run_has_kind: bool = False) -> str:
    """Return which ``launcher import`` reads a task file with these top-level keys; "" for none."""
    if "workflow" in keys:
        return "osmo"
    if "environment" in keys or "component" in keys or run_has_kind:
        return "polyaxon"
    if "commands" in keys or "type" in keys:
        return "dstack"
    theirs = {"file_mounts", "service", "pool", "config", "volumes", "event_callback"}
    return "skypilot" if theirs & set(keys) else ""
