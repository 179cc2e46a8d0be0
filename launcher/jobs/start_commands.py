"""Read start commands of other launchers as a README has them: ``torchrun ... train.py``.

Addresses, ranks and counts are decided by the plan. All other options are kept for the framework's own
launcher, which launcher starts on every host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..spec.errors import InputError
from ..spec.frozen import frozen
from .start_command import PYTHON, StartCommand, behind_python, without_python

__all__ = ["CONTAINERS", "INSTEAD", "PYTHON", "StartCommand", "program", "take"]

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@frozen
class _Options:
    """The options of a start command by name, dashes as underscores, and the words behind them."""

    program: str
    values: Mapping[str, str | None]
    rest: tuple[str, ...]

    def number(self, *names: str) -> int | None:
        """Return the first of these options that is a number; others, as ``gpu``, are the plan's."""
        found = (self.values.get(name) or "" for name in names)
        return next((int(value) for value in found if value.isascii() and value.isdigit()), None)

    def kept(self, *dropped: str) -> tuple[str, ...]:
        """Return all options but these, as the launcher takes them."""
        return tuple(
            (f"-{name}" if len(name) == 1 else f"--{name}") + ("" if value is None else f"={value}")
            for name, value in self.values.items()
            if name not in dropped
        )

    def refuse(self, *names: str) -> None:
        """Raise InputError for the first of these options that was given."""
        if found := next((name for name in names if name in self.values), None):
            raise InputError(
                f"{self.program} --{found} has no equivalent here",
                "leave it out; --framework env starts the command as it is, once per host",
            )


def take(words: tuple[str, ...]) -> StartCommand | None:
    """Return a start command taken apart, or None if ``words`` are none. Raises InputError."""
    envs, words = _assignments(words)
    name, rest = _program(words)
    if not name or name in INSTEAD:
        return None
    if name.startswith(("swift", "llamafactory")):
        found = _by_variables(_Options(name, {}, rest))
    elif name not in _READERS:
        from . import mpi_commands  # few jobs are typed so

        found = mpi_commands.take(name, rest)
    else:
        flags, reader = _READERS[name]
        found = reader(_options(name, rest, flags))
    return replace(found, envs={**envs, **found.envs})


def _assignments(words: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables in front of a command, and the command."""
    envs = {}
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        envs[match[1]] = match[2]
        words = words[1:]
    return envs, words


_RANKS_OF_A_CLUSTER = (
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
#: Programs that start ranks, or hand a script to a queue, and that nobody takes apart: what to type.
INSTEAD = {
    "srun": "launcher run --framework slurm --nodes N COMMAND, with what srun starts; a script that "
    "calls srun: launcher run job.sbatch",
    "sbatch": "launcher run job.sbatch reads its #SBATCH lines",
    "accelerate test": "accelerate launch -m accelerate.test_utils.scripts.test_script does the same",
    "accelerate-test": "accelerate launch -m accelerate.test_utils.scripts.test_script does the same",
    "axolotl train": "accelerate launch -m axolotl.cli.train CONFIG does the same",
    "colossalai run": "torchrun SCRIPT does the same: ColossalAI joins the ranks of torchrun",
    **dict.fromkeys(
        ("jsrun", "lrun", "flux run", "aprun", "ibrun", "prun", "mpirun_rsh"), _RANKS_OF_A_CLUSTER
    ),
    **dict.fromkeys(("pdsh", "clush", "pssh", "parallel-ssh"), _EACH_HOST),
    **dict.fromkeys(CONTAINERS, "--image NAME starts every rank in a container of it"),
    **dict.fromkeys(("qsub", "bsub", "flux batch", "condor_submit", "oarsub"), _QUEUES),
}

_SWIFT = ("sft", "pt", "rlhf", "dpo", "orpo", "simpo")
_PROGRAMS: Mapping[tuple[str, ...], str] = {
    ("torchrun",): "torchrun",
    ("-m", "torch.distributed.run"): "torchrun",
    ("-m", "torch.distributed.launch"): "torch.distributed.launch",
    ("accelerate", "launch"): "accelerate launch",
    ("accelerate-launch",): "accelerate launch",
    ("-m", "accelerate.commands.launch"): "accelerate launch",
    ("deepspeed",): "deepspeed",
    ("-m", "deepspeed.launcher.runner"): "deepspeed",
    ("fabric", "run"): "fabric run",
    ("lightning", "run"): "fabric run",
    ("lightning", "fabric", "run"): "fabric run",
    ("-m", "lightning", "fabric", "run"): "fabric run",
    ("-m", "lightning", "run"): "fabric run",
    ("-m", "lightning.fabric.cli", "run"): "fabric run",
    ("-m", "lightning_fabric.cli", "run"): "fabric run",
    ("-m", "paddle.distributed.launch"): "paddle.distributed.launch",
    ("-m", "paddle.distributed.fleet.launch"): "paddle.distributed.launch",
    ("fleetrun",): "paddle.distributed.launch",
    ("horovodrun",): "horovodrun",
    ("-m", "horovod.runner.launch"): "horovodrun",
    ("-m", "horovod.runner"): "horovodrun",
    ("mpirun",): "mpirun",
    ("mpiexec",): "mpiexec",
    ("orterun",): "mpirun",
    ("mpiexec.hydra",): "mpiexec",
    ("ray", "symmetric-run"): "ray symmetric-run",
    ("composer",): "composer",
    ("tune", "run"): "tune run",
    ("llamafactory-cli", "train"): "llamafactory-cli train",
    **{("swift", name): f"swift {name}" for name in _SWIFT},
    **{tuple(name.split()): name for name in INSTEAD},
}


def program(words: tuple[str, ...]) -> str:
    """Return which launcher a command starts at its first words; "" for none."""
    return _program(words)[0]


def _program(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return which launcher a command starts, and its arguments; "" for none of them."""
    if words and PYTHON.match(words[0]):
        words = behind_python(words)
    if words:
        words = (words[0].rpartition("/")[2], *words[1:])
    for names, called in _PROGRAMS.items():
        if words[: len(names)] == names:
            return called, words[len(names) :]
    return "", words


def _options(program: str, words: tuple[str, ...], flags: frozenset[str]) -> _Options:
    """Split arguments into options and what they start. ``flags`` are the options without a value."""
    values: dict[str, str | None] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if equals:
            values[name] = value
        elif name in flags or (left and left[0].endswith(".py")):
            values[name] = None
        elif not left:
            raise InputError(f"{program} {word} has no value", f"{program} ... train.py")
        else:
            values[name] = left.pop(0)
    if not left:
        raise InputError(f"{program} has no command", f"{program} ... train.py --epochs 3")
    return _Options(program, values, tuple(left))


def _command(given: _Options, local_rank: str = "") -> tuple[str, ...]:
    """Return what a rank runs; ``local_rank`` is the option in which the script gets its own."""
    script, *arguments = given.rest
    extra = (f"{local_rank}={{{{local_rank}}}}",) if local_rank else ()
    if "m" in given.values or "module" in given.values:
        return ("-m", script, *extra, *arguments)
    if "no_python" in given.values:
        return (script, *extra, *arguments)
    return (*(() if script.endswith(".py") else ("python",)), script, *extra, *arguments)


#: How a command begins: a module, or no Python at all. It becomes part of what a rank runs.
_FORM = ("m", "module", "no_python")
_TORCHRUN = frozenset({*_FORM, "standalone", "use_env", "virtual_local_rank"})


def _torchrun(given: _Options) -> StartCommand:
    given.refuse("run_path")
    nodes = given.values.get("nnodes") or ""
    elastic = re.fullmatch(r"(\d+):(\d+)", nodes)
    counted: int | str | None = given.number("nnodes")
    if elastic and elastic[1] != elastic[2]:
        counted = nodes
    elif elastic or "standalone" in given.values:
        counted = int(elastic[2]) if elastic else 1
    by_argument = given.program.endswith("launch") and "use_env" not in given.values
    names = ("nnodes", "nproc_per_node", "node_rank", "master_addr", "master_port", "local_addr")
    meeting = ("rdzv_backend", "rdzv_endpoint", "rdzv_id", "rdzv_conf", "standalone", "use_env")
    return StartCommand(
        framework="torchrun",
        run=_command(given, "--local-rank" if by_argument else ""),
        options=given.kept(*_FORM, *names, *meeting, "max_restarts"),
        nodes=counted,
        local_ranks=given.number("nproc_per_node"),
        restarts=given.number("max_restarts"),
    )


_ACCELERATE = frozenset(
    {
        *_FORM,
        *("quiet", "q", "cpu", "multi_gpu", "tpu", "enable_cpu_affinity", "use_deepspeed"),
        *("dynamo_use_fullgraph", "dynamo_use_dynamic", "dynamo_use_regional_compilation"),
        *("use_fsdp", "use_parallelism_config", "use_megatron_lm", "same_network", "debug"),
        *("tpu_cluster", "no_tpu_cluster", "tpu_use_sudo", "fp8_use_autocast_during_eval"),
        *("use_xpu", "ipex", "use_mps_device", "mps", "downcast_bf16"),
    }
)


def _accelerate(given: _Options) -> StartCommand:
    given.refuse("tpu", "tpu_cluster", "vm", "deepspeed_hostfile")
    names = ("num_processes", "num_machines", "machine_rank", "main_process_ip", "gpu_ids")
    meeting = ("main_process_port", "rdzv_backend", "rdzv_conf", "same_network", "multi_gpu", "cpu")
    return StartCommand(
        framework="accelerate",
        run=_command(given),
        options=given.kept(*_FORM, *names, *meeting, "deepspeed_multinode_launcher"),
        envs={"ACCELERATE_USE_CPU": "true"} if "cpu" in given.values else {},
        nodes=given.number("num_machines"),
        ranks=given.number("num_processes"),
    )


_DEEPSPEED = frozenset(
    {
        *_FORM,
        *("no_local_rank", "no_ssh", "no_ssh_check", "force_multi", "save_pid"),
        *("elastic_training", "bind_cores_to_rank", "quiet", "q"),
    }
)


def _deepspeed(given: _Options) -> StartCommand:
    given.refuse("autotuning", "elastic_training", "save_pid", "venv_script")
    hosts = ("hostfile", "H", "include", "i", "exclude", "e", "ssh_port", "no_ssh", "no_ssh_check")
    counts = ("num_nodes", "num_gpus", "num_accelerators", "node_rank")
    meeting = ("master_addr", "master_port", "launcher", "launcher_args")
    form = (*_FORM, "no_local_rank", "force_multi")
    by_argument = "no_local_rank" not in given.values and "no_python" not in given.values
    return StartCommand(
        framework="deepspeed",
        run=_command(given, "--local_rank" if by_argument else ""),
        options=given.kept(*form, *hosts, *counts, *meeting),
        nodes=given.number("num_nodes"),
        local_ranks=given.number("num_gpus", "num_accelerators"),
    )


def _fabric(given: _Options) -> StartCommand:
    if given.rest[0] == "model":  # Lightning 2.0
        again = _options(given.program, given.rest[1:], frozenset())
        given = replace(again, values={**given.values, **again.values})
    values = {name: value for name, value in given.values.items() if value}
    read = {
        name: values[name] for name in ("accelerator", "strategy", "precision") if name in values
    }
    return StartCommand(
        framework="torchrun",
        run=_command(given),
        envs={
            "LT_CLI_USED": "1",  # with it, torchrun gets LT_DEVICES and LT_NUM_NODES
            **{f"LT_{name.upper()}": value for name, value in read.items()},
        },
        nodes=given.number("num_nodes"),
        local_ranks=given.number("devices"),
    )


#: The variables of ``framework: env`` that take the place of Paddle's options.
_PADDLE = (
    'python -m paddle.distributed.launch --master "$MASTER_ADDR:$MASTER_PORT" '
    '--nnodes "$NUM_NODES" --rank "$RANK" --host "$POD_IP" --nproc_per_node "$NUM_TRAINERS"'
)


def _paddle(given: _Options) -> StartCommand:
    given.refuse("servers", "server_num", "workers", "trainers")
    names = ("master", "nnodes", "rank", "host", "nproc_per_node", "devices", "gpus", "ips")
    words = (*given.kept(*names), *given.rest)
    return StartCommand(
        framework="env",
        run=(f"exec {_PADDLE} {shlex.join(words)}",),
        nodes=given.number("nnodes"),
        local_ranks=given.number("nproc_per_node"),
    )


def _symmetric_run(given: _Options) -> StartCommand:
    counts = ("address", "min_nodes", "num_cpus", "num_gpus", "disable_usage_stats")
    given.refuse(*(name for name in given.values if name not in counts))
    return StartCommand(
        framework="ray",
        run=without_python(given.rest),
        nodes=given.number("min_nodes"),
        local_ranks=given.number("num_gpus", "num_cpus"),
    )


def _composer(given: _Options) -> StartCommand:
    """Composer only sets what each rank finds, which ``framework: torch`` does, too."""
    local, ranks = given.number("n", "nproc"), given.number("world_size")
    if {"c", "command_mode"} & given.values.keys():
        run = given.rest
    elif {"m", "module_mode"} & given.values.keys():
        run = ("-m", *given.rest)
    else:
        run = _command(given)
    return StartCommand(
        framework="torch",
        run=run,
        nodes=ranks // local if local and ranks and ranks % local == 0 else None,
        local_ranks=local,
        ranks=ranks,
    )


#: What torchtune gets in front. Without an address to meet at, it starts each host alone.
_TUNE = (
    '--nproc_per_node "$NUM_TRAINERS" --nnodes "$NUM_NODES" --rdzv_backend c10d '
    '--rdzv_endpoint "$MASTER_ADDR:$MASTER_PORT" --rdzv_id "$LAUNCHER_RUN_ID"'
)


def _tune(given: _Options) -> StartCommand:
    """torchtune takes all options of torchrun."""
    alone = "standalone" in given.values
    names = ("nnodes", "nproc_per_node", "node_rank", "master_addr", "master_port", "local_addr")
    meeting = ("rdzv_backend", "rdzv_endpoint", "rdzv_id", "rdzv_conf", "max_restarts")
    words = shlex.join((*given.kept(*names, *meeting), *given.rest))
    front = '--nproc_per_node "$NUM_TRAINERS"' if alone else _TUNE
    return StartCommand(
        framework="env",
        run=(f"exec tune run {front} {words}",),
        nodes=1 if alone else given.number("nnodes"),
        local_ranks=given.number("nproc_per_node"),
    )


def _by_variables(given: _Options) -> StartCommand:
    """These start torchrun by the variables of ``framework: env``."""
    words = (*given.program.split(), *given.rest)
    is_asked = given.program.startswith("llamafactory")
    return StartCommand(
        framework="env",
        run=(f"exec {shlex.join(words)}",),
        envs={"FORCE_TORCHRUN": "1"} if is_asked else {},
    )


_COMPOSER = frozenset({"v", "verbose", "m", "module_mode", "c", "command_mode"})
_READERS: Mapping[str, tuple[frozenset[str], Callable[[_Options], StartCommand]]] = {
    "torchrun": (_TORCHRUN, _torchrun),
    "torch.distributed.launch": (_TORCHRUN, _torchrun),
    "accelerate launch": (_ACCELERATE, _accelerate),
    "deepspeed": (_DEEPSPEED, _deepspeed),
    "fabric run": (frozenset(), _fabric),
    "paddle.distributed.launch": (frozenset(), _paddle),
    "ray symmetric-run": (frozenset({"disable_usage_stats"}), _symmetric_run),
    "composer": (_COMPOSER, _composer),
    "tune run": (_TORCHRUN, _tune),
}
