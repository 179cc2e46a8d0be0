"""``sbatch`` inside of a batch script: it runs here, on the hosts of the run, until it has ended.

It gets what its ``#SBATCH`` lines and the command ask for, of those hosts: so many of them, with so many
tasks each. A job that it depends on has ended by then, as has the one before it.
"""

from __future__ import annotations

import os
import re
import stat
import sys

from ..base import lean
from .slurm_nodes import NODES, chosen, count, repeated, spread
from .slurm_options import SBATCH, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Tuple

    from .slurm_nodes import Node
    from .slurm_options import Options

#: What cannot be done on hosts that the run has already, and what to do instead.
_REFUSED = {
    "begin": "use `launcher run --at` on your own machine",
    "het-group": "a heterogeneous job is not one run",
}
_SIZES = frozenset(("nodes", "ntasks", "ntasks-per-node", "nodelist", "exclude"))
#: The variable with the path of a batch script, where it is known.
SCRIPT = "LAUNCHER_SLURM_SCRIPT"
#: Elements of an array at most.
_MOST = 10000


class Job:
    """A script with its arguments, and what it asks for."""

    def __init__(self, options: Options, argv: List[str]) -> None:
        self.options, self.argv = options, argv


def read(words: List[str]) -> Job:
    """Return what ``sbatch`` is asked for. Raises Wrong."""
    options, argv = SBATCH.parse(words)
    _check(options)
    if "wrap" in options:
        argv = ["bash", "-c", options["wrap"]]
    elif argv:
        options = dict(directives(_text(argv[0])), **options)
        options.setdefault("job-name", os.path.basename(argv[0]))
        argv = ["bash", *argv]
    else:
        raise Wrong("there is no script: sbatch job.sh")
    if "tasks-per-node" in options:
        options.setdefault("ntasks-per-node", options.pop("tasks-per-node"))
    _check(options)
    return Job(options, argv)


def _check(options: Options) -> None:
    for name, why in _REFUSED.items():
        if name in options:
            raise Wrong("--%s cannot be done inside of a run: %s" % (name, why))


def _text(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise Wrong("cannot read %s: %s" % (path, error.strerror))


def directives(text: str) -> Options:
    """Return the options of all ``#SBATCH`` lines in front of the first command. Raises Wrong."""
    import shlex

    found: Options = {}
    for line in text.split("\n"):
        if line.startswith("#SBATCH"):
            try:
                words = shlex.split(line[len("#SBATCH") :], comments=True)
            except ValueError as error:
                raise Wrong("#SBATCH: %s" % error)
            found.update(SBATCH.parse(words)[0])
        elif line.strip() and not line.startswith("#"):
            break
    return found


def elements(text: str) -> List[int]:
    """Return the elements of ``--array``: ``0-9:3%2`` are 0, 3, 6 and 9. Raises Wrong."""
    found: List[int] = []
    for part in text.partition("%")[0].split(","):
        match = re.match(r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?\Z", part)
        if not match:
            raise Wrong("--array=%s: not a list of numbers" % text)
        first, last, step = match.groups()
        found += range(int(first), int(last or first) + 1, int(step or 1) or 1)
        if not found or len(found) > _MOST:
            raise Wrong("--array=%s: 1 to %d elements" % (text, _MOST))
    return found


def needed(nodes: List[Node], options: Options) -> int:
    """Return how many nodes a job needs that names its tasks alone. Raises Wrong."""
    total, each = (options.get(name, "") for name in ("ntasks", "ntasks-per-node"))
    for name, value in (("ntasks", total), ("ntasks-per-node", each)):
        if value and not re.match(r"[1-9][0-9]{0,5}\Z", value):
            raise Wrong("--%s=%s: not a number" % (name, value))
    if not total:
        return 1
    if each:
        return -(-int(total) // int(each))
    count = room = 0
    while room < int(total) and count < len(nodes):
        room += nodes[count]["tasks"]
        count += 1
    return count


def depends_on(text: str, ended: Dict[str, int]) -> None:
    """Raise Wrong if a dependency can never be met; all jobs before have ended, with these statuses."""
    for part in re.split("[,?]", text):
        kind, _, jobs = part.partition(":")
        for job in filter(None, jobs.split(":")):
            number = job.partition("+")[0].partition("_")[0]
            if number not in ended:
                raise Wrong("--dependency=%s: this run has started no job %s" % (text, number))
            code = ended[number]
            if (kind == "afterok" and code) or (kind == "afternotok" and not code):
                raise Wrong("--dependency=%s: job %s exited with %d" % (text, number, code))


class Ledger:
    """The jobs that this run has started by sbatch, in a file: a number and a status in each line."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, "slurm-jobs")

    def ended(self) -> Dict[str, int]:
        """Return the exit statuses of all jobs, by their numbers."""
        try:
            with open(self._path) as file:
                pairs = [line.split() for line in file]
        except OSError:
            return {}
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}

    def add(self, number: str, code: int) -> None:
        """Add a job that has ended."""
        with open(self._path, "a") as file:
            file.write("%s %d\n" % (number, code))


def variables(job: Job, number: str, nodes: List[Tuple[Node, int]]) -> Dict[str, str]:
    """Return Slurm's variables of a job on these nodes, each with its tasks."""
    counts = [count for _, count in nodes]
    addresses = ",".join(node["address"] for node, _ in nodes)
    found = {
        NODES: lean.dumps([dict(node, tasks=count) for node, count in nodes]),
        "SLURM_JOB_NAME": job.options.get("job-name", "wrap"),
        SCRIPT: "" if "wrap" in job.options else os.path.abspath(job.argv[1]),
        "SLURM_TASKS_PER_NODE": repeated(counts),
    }
    for name in ("SLURM_JOB_ID", "SLURM_JOBID"):
        found[name] = number
    for name in ("SLURM_NNODES", "SLURM_JOB_NUM_NODES"):
        found[name] = str(len(nodes))
    for name in ("SLURM_NTASKS", "SLURM_NPROCS"):
        found[name] = str(sum(counts))
    for name in ("SLURM_NODELIST", "SLURM_JOB_NODELIST"):
        found[name] = addresses
    if len(set(counts)) == 1:
        found["SLURM_NTASKS_PER_NODE"] = str(counts[0])
    if "cpus-per-task" in job.options:
        found["SLURM_CPUS_PER_TASK"] = job.options["cpus-per-task"]
    return found


def run(run_dir: str, words: List[str]) -> int:
    """Run ``sbatch``; return the exit status of the script. Raises Wrong, OSError."""
    job = read(words)
    ledger = Ledger(run_dir)
    depends_on(job.options.get("dependency", ""), ledger.ended())
    nodes: List[Node] = lean.loads(os.environ[NODES])
    parts = [(node, node["tasks"]) for node in nodes]
    if not _SIZES.isdisjoint(job.options):
        sizes = {name: job.options[name] for name in _SIZES if name in job.options}
        if "nodes" not in sizes and "nodelist" not in sizes:
            sizes["nodes"] = str(needed(nodes, sizes))
        if not {"ntasks", "ntasks-per-node"} & set(sizes):
            sizes["ntasks-per-node"] = "1"
        parts = spread(chosen(nodes, sizes), sizes)
    first = int(os.environ.get("LAUNCHER_SLURM_JOB") or os.environ.get("SLURM_JOB_ID") or 0)
    number = str(first + 1 + count(run_dir, "slurm-numbers"))
    print(number if "parsable" in job.options else "Submitted batch job %s" % number, flush=True)
    envs = [dict(variables(job, number, parts), LAUNCHER_SLURM_JOB=str(first))]
    if "array" in job.options:
        values = elements(job.options["array"])
        shared = {"COUNT": len(values), "MIN": min(values), "MAX": max(values)}
        array = {"SLURM_ARRAY_TASK_%s" % name: str(value) for name, value in shared.items()}
        array["SLURM_ARRAY_JOB_ID"] = number
        envs = [dict(envs[0], SLURM_ARRAY_TASK_ID=str(value), **array) for value in values]
    codes = [_run(job, env) for env in envs]
    code = next(filter(None, codes), 0)
    ledger.add(number, code)
    return code


def _run(job: Job, env: Dict[str, str]) -> int:
    """Run the script once; return its exit status."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            if stat.S_ISFIFO(os.fstat(1).st_mode):
                os.dup2(
                    2, 1
                )  # $(sbatch --parsable ...) takes the number alone; the log has the rest
            os.environ.update(env)
            os.chdir(job.options.get("chdir") or ".")
            os.execvp("bash", job.argv)
        except OSError as error:
            os.write(2, b"launcher: sbatch: %s\n" % os.fsencode(str(error)))
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
