"""``srun``, ``sbatch``, ``scontrol`` and ``squeue`` for batch scripts, through the agents.

The framework ``sbatch`` describes the nodes in LAUNCHER_SLURM. A step's tasks have the variables that
the batch script has changed, and the folder that it is in, on any node.
"""

from __future__ import annotations

import os
import re
import select
import sys

from ..base import frames, lean
from ..base.lean import signal
from ..base.local_sockets import PEER, connect, node_of
from . import slurm_signals
from .slurm_nodes import FAILED, NODES, chosen, count, number, repeated, spread, warn, write
from .slurm_options import SRUN, Wrong, ignored
from .slurm_streams import Outputs, Source, Task, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, NoReturn, Optional, Tuple

    from ..base.lean import Socket
    from .slurm_nodes import Node
    from .slurm_options import Options

#: The programs that a batch script finds first on PATH.
PROGRAMS = ("srun", "scontrol", "sbatch", "squeue", "hostname")
#: Variables of a shell and of this program that no task takes over.
_OWN = frozenset(("PWD", "OLDPWD", "SHLVL", "_", NODES))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def tasks(nodes: List[Node], options: Options, step: int) -> List[Task]:
    """Return the tasks of a step with Slurm's variables. Raises Wrong."""
    parts = spread(chosen(nodes, options), options)
    counts = [count for _, count in parts]
    gpus = number(options, "gpus-per-task")
    shared = {
        "SLURM_STEP_ID": str(step),
        "SLURM_STEPID": str(step),
        "SLURM_STEP_NODELIST": ",".join(node["address"] for node, _ in parts),
    }
    for name in ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS"):
        shared[name] = str(sum(counts))
    for name in ("SLURM_NNODES", "SLURM_STEP_NUM_NODES"):
        shared[name] = str(len(parts))
    for name in ("SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"):
        shared[name] = repeated(counts)
    found: List[Task] = []
    for place, (node, size) in enumerate(parts):
        ranks = range(len(found), len(found) + size)
        for local, rank in enumerate(ranks):
            env = dict(
                shared,
                SLURM_PROCID=str(rank),
                SLURM_LOCALID=str(local),
                SLURM_NODEID=str(place),
                SLURM_GTIDS=",".join(map(str, ranks)),
                SLURMD_NODENAME=node["name"],
            )
            if "cpus-per-task" in options:
                env["SLURM_CPUS_PER_TASK"] = options["cpus-per-task"]
            if node["gpus"]:
                env["SLURM_STEP_GPUS"] = ",".join(node["gpus"])
            if gpus and node["gpus"]:
                mine = node["gpus"][local * gpus : (local + 1) * gpus]
                if len(mine) < gpus:
                    raise Wrong("%s has fewer GPUs than its tasks ask for" % node["name"])
                env["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
            found.append(Task(node, rank, env))
    return found


def changed(env: Dict[str, str], node: Dict[str, str], export: str = "ALL") -> Dict[str, str]:
    """Return the variables that a batch script has set or changed: its tasks have them, too.

    ``export`` is that of srun: ALL, NONE, or names and assignments.
    """
    words = [word for word in export.split(",") if word]
    given = dict(word.partition("=")[::2] for word in words if "=" in word)
    if "NONE" in words or ("ALL" not in words and not given and not words):
        return {}
    names = None if "ALL" in words or not words else [word for word in words if "=" not in word]
    found = {
        name: value
        for name, value in env.items()
        if node.get(name) != value and name not in _OWN and _NAME.match(name)
        if names is None or name in names
    }
    found.update(given)
    return found


def command(argv: List[str], env: Dict[str, str], folder: str) -> str:
    """Return the shell text of a task: in a folder of the code, our programs first on PATH."""
    env = dict(env)
    path = env.pop("PATH", None)
    lines = ["export %s=%s" % (name, quoted(value)) for name, value in sorted(env.items())]
    lines.append("export SLURM_TASK_PID=$$")  # the command takes the place of its shell
    if path is not None:
        lines.append("PATH=%s" % quoted(path))
    lines.append('export PATH="${LAUNCHER_NODE:-$LAUNCHER_RUN_DIR}/relay:$PATH"')
    if folder != ".":
        lines.append("cd -- %s || exit" % quoted(folder))
    return "\n".join([*lines, "exec %s" % " ".join(map(quoted, argv))])


def of_host() -> Dict[str, str]:
    """Return the variables of this host, which its agent alone knows."""
    env = {
        "SLURM_CPUS_ON_NODE": str(len(os.sched_getaffinity(0))),
        "SLURM_JOB_UID": str(os.getuid()),
        "SLURM_JOB_GID": str(os.getgid()),
    }
    try:
        import pwd

        env["SLURM_JOB_USER"] = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):  # such as a user of a container that has no name
        pass
    return env


def quoted(word: str) -> str:
    """Quote a word for a shell."""
    return "'" + word.replace("'", "'\\''") + "'"


# -- srun


class Step:
    """The tasks of an srun, what they read, and what they print, in whole lines."""

    def __init__(self, run_dir: str, outputs: Outputs, label: bool, kill: bool) -> None:
        self._run_dir, self._outputs, self._label, self._kill = run_dir, outputs, label, kill
        self._lines: Dict[Socket, Task] = {}
        self._sources: Dict[Socket, Source] = {}
        self._heard: Dict[Socket, bytearray] = {}
        self._rest: Dict[Tuple[Socket, int], bytes] = {}
        self.code = 0

    def start(self, task: Task, text: str, source: Optional[Source] = None) -> None:
        """Start a task, which reads a source or nothing. Raises OSError."""
        line = connect(self._run_dir, PEER)
        line.sendall(frames.frame(frames.ASK, {"host": task.node["name"], "command": text}))
        if source is None:
            line.sendall(frames.frame(frames.INPUT))
        else:
            self._sources[line] = source
            source.add(line)
        self._lines[line], self._heard[line] = task, bytearray()

    def wait(self) -> int:
        """Pass output on until all tasks have ended, or one has failed; return the exit status.

        Tasks end with our connections. Nobody waits for the end of what tasks read.
        """
        signals = slurm_signals.caught()
        while self._lines:
            reading = {one.fd: one for one in self._sources.values() if one.is_wanted()}
            watched: List[Socket | int] = [signals, *self._lines, *reading]
            for ready in select.select(watched, [], [])[0]:
                if ready == signals:
                    self._pass_on(os.read(signals, 64))
                elif isinstance(ready, int):
                    if reading[ready].is_wanted():  # its tasks may just have ended
                        reading[ready].pass_on()
                else:
                    self._hear(ready)
                if self.code and self._kill:
                    return self.code
        return self.code

    def _pass_on(self, numbers: bytes) -> None:
        """Send signals to all tasks."""
        for caught in filter(slurm_signals.PASSED_ON.__contains__, numbers):
            for line in self._lines:
                try:
                    line.sendall(frames.frame(frames.SIGNAL, {"signal": caught}))
                except OSError:
                    pass  # its end is told by what is read from it

    def _hear(self, line: Socket) -> None:
        try:
            data = line.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._end(line, 255, "the connection to %s is lost" % self._lines[line].node["name"])
            return
        heard = self._heard[line]
        heard += data
        while line in self._lines and len(heard) >= frames.HEAD.size:
            kind, length = frames.size_of(bytes(heard[: frames.HEAD.size]))
            end = frames.HEAD.size + length
            if len(heard) < end:
                return
            piece = bytes(heard[frames.HEAD.size : end])
            del heard[:end]
            if kind in (frames.OUTPUT, frames.ERROR):
                self._print(line, 1 if kind == frames.OUTPUT else 2, piece)
            elif kind == frames.TAKEN and line in self._sources:
                self._sources[line].taken(line, lean.loads(piece.decode("utf-8"))["taken"])
            elif kind == frames.EXIT:
                message = lean.loads(piece.decode("utf-8"))
                self._end(line, message.get("code", 255), message.get("trouble", ""))

    def _print(self, line: Socket, stream: int, data: bytes) -> None:
        """Print the lines that are complete."""
        *lines, rest = (self._rest.get((line, stream), b"") + data).split(b"\n")
        self._rest[line, stream] = rest
        task = self._lines[line]
        mark = b"%d: " % task.rank if self._label else b""
        said = b"".join(mark + one + b"\n" for one in lines)
        if self._outputs.write(task, stream, said):
            write(stream, said)

    def _end(self, line: Socket, code: int, trouble: str) -> None:
        for stream in (1, 2):
            if self._rest.pop((line, stream), b""):
                self._print(line, stream, b"\n")
        task = self._lines.pop(line)
        if line in self._sources:
            self._sources.pop(line).drop(line)
        line.close()
        if trouble:
            _say("%s: %s" % (task.node["name"], trouble))
        elif code:
            _say("task %d on %s exited with %d" % (task.rank, task.node["name"], code))
        self.code = self.code or code


def run_step(run_dir: str, words: List[str]) -> int:
    """Run ``srun`` with these words; return its exit status. Raises Wrong, OSError."""
    has_stdin = _is_open(0)  # before anything else can be number 0
    options, argv = SRUN.parse(words)
    if told := [name for name in ("help", "usage", "version") if name in options]:
        print(
            "srun of launcher" if told == ["version"] else "usage: srun [OPTIONS] COMMAND [ARGS]..."
        )
        return 0
    if not argv:
        raise Wrong("there is no command: srun python train.py")
    if ":" in argv:
        raise Wrong("several programs (:) cannot be done through launcher: start an srun for each")
    nodes = lean.loads(os.environ[NODES])
    _prepare(options, nodes)
    env, folder = node_of(run_dir)
    found = tasks(nodes, options, count(run_dir, "slurm-steps"))
    if "PET_RDZV_CONF" not in os.environ:
        # By c10d, a torchrun whose host's own name is loopback would not know that it is the first.
        found[0].env["PET_RDZV_CONF"] = "is_host=true"
    if len(found) > 1:
        _refuse_mpi(argv[0], found)
    own = changed(dict(os.environ), env, options.get("export", "ALL"))
    if "PATH" in own:
        own["PATH"] = _plain_path(own["PATH"], run_dir)
        if own["PATH"] == env.get("PATH"):
            del own["PATH"]
    there = options.get("chdir") or os.getcwd()
    inside = os.path.relpath(there, folder) if os.path.isabs(there) else there
    if inside.startswith(".."):
        inside = there
    kill = options.get("kill-on-bad-exit") != "0"
    read = sources(options, found, has_stdin)
    step = Step(run_dir, Outputs(options, found), "label" in options, kill)
    for task in found:
        step.start(task, command(argv, dict(own, **task.env), inside), read.get(task.rank))
    return step.wait()


def _prepare(options: Options, nodes: List[Node]) -> None:
    """Put options into the words that a step knows, and name those that it ignores. Raises Wrong."""
    if "tasks-per-node" in options:
        options.setdefault("ntasks-per-node", options.pop("tasks-per-node"))
    own = os.environ.get("SLURM_JOB_ID", "0")
    if options.get("jobid", own) != own:
        raise Wrong("--jobid=%s: this run is job %s" % (options["jobid"], own))
    if "nodefile" in options:
        try:
            with open(options["nodefile"]) as file:
                options["nodelist"] = ",".join(file.read().replace(",", " ").split())
        except OSError as error:
            raise Wrong("cannot read %s: %s" % (options["nodefile"], error.strerror))
    if "gpus-per-task" in options:  # its GPUs are of one model
        options["gpus-per-task"] = options["gpus-per-task"].rpartition(":")[2]
    left = [name for name in ignored(options) if not _has_gpus(name, options[name], nodes)]
    if left and "quiet" not in options:
        why = ": for MPI, start mpirun in place of srun" if "mpi" in left else ""
        warn("launcher ignores --%s%s" % (", --".join(left), why))


#: Libraries of MPICH and of Intel MPI, whose programs would not say that they found no PMI.
_MPI = (b"libmpich.so.", b"libmpi.so.12", b"libmpi_ilp64.so")
#: A program's names of libraries are in so many bytes at its beginning, or it counts as none.
_MOST = 64 << 20


def _refuse_mpi(program: str, found: List[Task]) -> None:
    """Raise Wrong for a program of MPI that would compute alone in each task, without a word."""
    folders = [""] if "/" in program else os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [os.path.join(folder, program) for folder in folders]
    try:
        with open(next(filter(os.path.isfile, paths), ""), "rb") as file:
            text = file.read(_MOST) if file.read(4) == b"\x7fELF" else b""
    except OSError:
        return
    if any(name in text for name in _MPI):
        raise Wrong(
            "%s is a program of MPICH or Intel MPI: its %d tasks would not meet, as there is no PMI"
            " here. Start mpirun in place of srun, which starts ranks on all hosts"
            % (program, len(found))
        )


def _has_gpus(name: str, value: str, nodes: List[Node]) -> bool:
    """Return whether an option asks for all GPUs of the run, which tasks see."""
    count = value.rpartition(":")[2]
    if name == "gres" and value.partition(":")[0] != "gpu":
        return False
    if name in ("gres", "gpus-per-node"):
        return all(count == str(len(node["gpus"])) for node in nodes)
    return name == "gpus" and count == str(sum(len(node["gpus"]) for node in nodes))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _plain_path(path: str, run_dir: str) -> str:
    """Return a PATH without the folder of our programs, which is another one on each host."""
    own = os.path.realpath(os.path.join(run_dir, "relay"))
    return os.pathsep.join(p for p in path.split(os.pathsep) if os.path.realpath(p) != own)


def show_name(words: List[str]) -> NoReturn:
    """Run ``hostname``; the address is that at which the other hosts reach this one."""
    own = os.environ.get("POD_IP")
    if own and words and words[0] in ("-i", "--ip-address", "-I", "--all-ip-addresses"):
        print(own)
        sys.stdout.flush()
        os._exit(0)
    for folder in os.defpath.split(os.pathsep) + ["/usr/bin", "/bin"]:
        program = os.path.join(folder or "/", "hostname")
        if os.access(program, os.X_OK):
            os.execv(program, ["hostname", *words])
    raise Wrong("hostname is not installed")


def _return_variables(run_dir: str) -> None:
    """Give this process the variables of the job, without which ``env -i`` has started it. Raises
    OSError."""
    env, _ = node_of(run_dir)
    for name, value in env.items():
        if name == NODES or name.startswith("SLURM"):
            os.environ.setdefault(name, value)


def _say(text: str) -> None:
    write(2, b"launcher: srun: %s\n" % os.fsencode(text))


def main(argv: list[str]) -> None:
    """Run ``slurm PROGRAM RUN_DIR WORDS``."""
    program, run_dir, words = argv[0], argv[1], argv[2:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        if program != "hostname" and NODES not in os.environ:
            _return_variables(run_dir)
        if program == "srun":
            # Read from a terminal behind another program: that fails, and ends what tasks read.
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
            code = run_step(run_dir, words)
        elif program in ("scontrol", "squeue"):
            from . import slurm_queue

            is_queue = program == "squeue"
            code = slurm_queue.squeue(run_dir, words) if is_queue else slurm_queue.scontrol(words)
        elif program == "sbatch":
            from . import slurm_jobs

            code = slurm_jobs.run(run_dir, words)
        else:
            show_name(words)
    except Wrong as wrong:
        sys.stderr.write("launcher: %s: %s\n" % (program, wrong))
        code = FAILED
    except OSError as error:
        sys.stderr.write("launcher: %s: %s\n" % (program, error.strerror or error))
        code = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if 0 <= code < 256 else FAILED)
