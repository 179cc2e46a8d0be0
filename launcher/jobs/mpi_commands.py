"""Read ``mpirun ... COMMAND`` and ``horovodrun ... COMMAND`` as a README has them.

Hosts, slots, networks and how hosts are reached are the plan's; ``-x`` becomes the job's environment.
All other options are kept for the real launcher on the first host.

Sources: mpirun(1) of Open MPI 4.1, mpiexec of MPICH, and ``parse_args`` in horovod.runner.launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ..spec.errors import InputError
from ..spec.frozen import frozen
from .start_command import StartCommand, without_python

#: What stands in place of a number where only the host knows it.
_UNKNOWN = ("$", "%", "{{")
#: Variables whose values are a host's own.
_OF_A_HOST = frozenset(
    {
        *("PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PYTHONPATH", "HOME", "USER"),
        *("VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME"),
    }
)

_COUNTS = {"np": 1, "n": 1, "c": 1}
#: By name, how many words follow. These are the plan's, or come from it.
_MPI_DROPPED = {
    **dict.fromkeys(("H", "host", "hostfile", "machinefile", "default-hostfile"), 1),
    **dict.fromkeys(("N", "npernode", "map-by", "rank-by"), 1),
    **dict.fromkeys(
        ("pernode", "bynode", "byslot", "nolocal", "oversubscribe", "nooversubscribe"), 0
    ),
    **dict.fromkeys(("allow-run-as-root", "leave-session-attached"), 0),
    "x": 1,
    # Those of MPICH and Intel MPI, for which Open MPI's program starts the same ranks.
    **dict.fromkeys(("ppn", "perhost", "f", "hosts", "bootstrap", "iface", "rmk"), 1),
    **dict.fromkeys(("genvall", "l", "prepend-rank"), 0),
    "genv": 2,
}
_MPI_KEPT = {
    **dict.fromkeys(("bind-to", "cpus-per-proc", "cpus-per-rank", "cpu-set", "cpu-list"), 1),
    **dict.fromkeys(("timeout", "am", "tune", "report-pid"), 1),
    **dict.fromkeys(("mca", "gmca"), 2),
    **dict.fromkeys(("bind-to-none", "bind-to-core", "bind-to-socket", "report-bindings"), 0),
    **dict.fromkeys(("use-hwthread-cpus", "display-map", "display-allocation"), 0),
    **dict.fromkeys(("tag-output", "timestamp-output", "v", "verbose", "q", "quiet"), 0),
}
#: Options that name a file of hosts.
_MPI_FILES = ("hostfile", "machinefile", "default-hostfile", "f")
#: MCA parameters that say how hosts are reached, which agents do, and by which interface.
_MCA_DROPPED = ("plm_", "btl_tcp_if_", "oob_tcp_if_", "orte_keep_fqdn")

_HOROVOD_DROPPED = {
    **dict.fromkeys(("H", "hosts", "hostfile", "p", "ssh-port", "i", "ssh-identity-file"), 1),
    **dict.fromkeys(("network-interface", "network-interfaces"), 1),
    **dict.fromkeys(("disable-cache", "gloo", "mpi", "allow-run-as-root"), 0),
}
_HOROVOD_KEPT = {
    **dict.fromkeys(("start-timeout", "config-file", "fusion-threshold-mb", "cycle-time-ms"), 1),
    **dict.fromkeys(("cache-capacity", "autotune-log-file", "autotune-warmup-samples"), 1),
    **dict.fromkeys(("autotune-steps-per-sample", "autotune-bayes-opt-max-samples"), 1),
    **dict.fromkeys(("autotune-gaussian-process-noise", "timeline-filename"), 1),
    **dict.fromkeys(("stall-check-warning-time-seconds", "stall-check-shutdown-time-seconds"), 1),
    **dict.fromkeys(
        ("num-nccl-streams", "thread-affinity", "gloo-timeout-seconds", "log-level"), 1
    ),
    **dict.fromkeys(("hierarchical-allreduce", "no-hierarchical-allreduce"), 0),
    **dict.fromkeys(("hierarchical-allgather", "no-hierarchical-allgather"), 0),
    **dict.fromkeys(("torus-allreduce", "no-torus-allreduce", "autotune", "no-autotune"), 0),
    **dict.fromkeys(("timeline-mark-cycles", "no-timeline-mark-cycles", "verbose"), 0),
    **dict.fromkeys(("stall-check", "no-stall-check", "mpi-threads-disable"), 0),
    **dict.fromkeys(("no-mpi-threads-disable", "tcp", "log-with-timestamp"), 0),
    **dict.fromkeys(
        ("log-without-timestamp", "prefix-timestamp", "prefix-output-with-timestamp"), 0
    ),
}


@frozen
class _Line:
    """A command line taken apart: options with their values, in order, and the command behind them."""

    program: str
    options: tuple[tuple[str, tuple[str, ...]], ...]
    run: tuple[str, ...]

    def values(self, *names: str) -> Iterator[str]:
        """Return the values of all options of these names."""
        return (given[0] if given else "" for name, given in self.options if name in names)

    def last(self, *names: str) -> str | None:
        """Return the value of the last of these options; None if none was given."""
        return next(iter(reversed([*self.values(*names)])), None)

    def kept(self, known: Mapping[str, int]) -> tuple[str, ...]:
        """Return the options that go to the real launcher, as words."""
        kept = [(name, given) for name, given in self.options if name in known]
        return tuple(word for name, given in kept for word in (_dashed(name), *given))


def _dashed(name: str) -> str:
    return ("-" if len(name) == 1 else "--") + name


def take(program: str, words: tuple[str, ...]) -> StartCommand:
    """Return a command of one of ``PROGRAMS``, taken apart. Raises InputError."""
    return PROGRAMS[program](program, words)


def _mpirun(program: str, words: tuple[str, ...]) -> StartCommand:
    line = _read(program, words, {**_COUNTS, **_MPI_DROPPED, **_MPI_KEPT})
    if ":" in line.run:
        raise InputError(
            f"{program} with several programs has no equivalent here",
            "--framework ssh starts the command as it is, on the first host; -H $SLOTS names the hosts",
        )
    options = tuple(
        (name, given)
        for name, given in line.options
        if not (name in ("mca", "gmca") and given[0].startswith(_MCA_DROPPED))
    )
    by = line.last("map-by") or ""
    if "pe=" in by.lower():
        raise _foreign(program, f"--map-by {by}")
    local = _number(program, "-N", line.last("N", "npernode", "ppn", "perhost"))
    if by.lower().startswith("ppr:") and by.lower().endswith(":node"):
        local = _number(program, "--map-by", by.split(":")[1])
    if line.last("pernode") is not None:
        local = 1
    assigned = [word.partition("=") for word in line.values("x")]
    given = {words[0]: words[1] for name, words in line.options if name == "genv"}
    passed = (name for name, equals, _ in assigned if not equals and name not in _OF_A_HOST)
    return replace(
        _counted(line, "mpi", local, ("H", "host", "hosts"), _MPI_FILES),
        options=replace(line, options=options).kept(_MPI_KEPT),
        envs={name: value for name, equals, value in assigned if equals} | given,
        passed=tuple(dict.fromkeys(passed)),
    )


def _horovodrun(program: str, words: tuple[str, ...]) -> StartCommand:
    line = _read(program, words, {"np": 1, "num-proc": 1, **_HOROVOD_DROPPED, **_HOROVOD_KEPT})
    by_mpi, by_gloo = line.last("mpi") is not None, line.last("gloo") is not None
    also = ("horovod-mpi",) if not by_gloo else ()
    options = line.kept(_HOROVOD_KEPT)
    return replace(
        _counted(line, "horovod-mpi" if by_mpi else "horovod", None, ("H", "hosts"), ("hostfile",)),
        options=options,
        # Without horovodrun, nobody reads its options.
        also=() if by_mpi else (*also, *(("horovod-direct",) if not options else ())),
    )


PROGRAMS: Mapping[str, Callable[[str, tuple[str, ...]], StartCommand]] = {
    "mpirun": _mpirun,
    "mpiexec": _mpirun,
    "horovodrun": _horovodrun,
}


def _read(program: str, words: tuple[str, ...], known: Mapping[str, int]) -> _Line:
    left, options = list(words), []
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.lstrip("-").partition("=")
        if name not in known:
            raise _foreign(program, word)
        given = [value] if equals else []
        while len(given) < known[name] and left:
            given.append(left.pop(0))
        if len(given) != known[name]:
            raise InputError(f"{program} {word} has no value", f"{program} ... python train.py")
        options.append((name, tuple(given)))
    if not left:
        raise InputError(f"{program} has no command", f"{program} -np 2 python train.py")
    return _Line(program, tuple(options), tuple(left))


def _foreign(program: str, option: str) -> InputError:
    return InputError(
        f"{program} {option} has no equivalent here",
        "leave it out; --framework ssh starts the command as it is, on the first host",
    )


def _counted(
    line: _Line,
    framework: str,
    local: int | None,
    named: tuple[str, ...],
    files: tuple[str, ...],
) -> StartCommand:
    """Return a command with its counts: of its ranks, and of the hosts that it names."""
    counts = ("np", "n", "c", "num-proc")
    option = next((name for name, _ in line.options if name in counts), "np")
    ranks = _number(line.program, f"-{option}", line.last(*counts))
    slots: dict[str, int] = {}
    for host in ",".join(line.values(*named)).split(","):
        name, _, count = host.strip().partition(":")
        if name and not name.startswith(_UNKNOWN):
            slots[name] = slots.get(name, 0) + (int(count) if count.isdigit() else 1)
    nodes = len(slots) or None
    if nodes and ranks is None and local is None and line.last(*counts) is None:
        equal = len({*slots.values()}) == 1
        local, ranks = (next(iter(slots.values())), None) if equal else (None, sum(slots.values()))
    if local and ranks and ranks % local == 0:
        nodes = ranks // local
    elif ranks and nodes is None and line.last(*files) is None:
        nodes = 1  # as there, all on one host
    elif nodes and ranks and ranks < nodes:
        nodes = ranks
    return StartCommand(
        framework=framework,
        run=without_python(line.run),
        nodes=nodes,
        local_ranks=local,
        ranks=ranks,
        exact=f"{line.program} -{option}",
    )


def _number(program: str, option: str, text: str | None) -> int | None:
    """Return a count; None where none is given, or the host alone knows it. Raises InputError."""
    if text is None or text.startswith(_UNKNOWN):
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(f"{program} {option} {text} is no count", f"{program} -np 2 python train.py")
