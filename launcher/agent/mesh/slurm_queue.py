"""``scontrol`` and ``squeue`` inside of a batch script: what is known of the job that asks.

Formats: squeue(1) and scontrol(1), of Slurm 24.11.
"""

from __future__ import annotations

import os
import re
import sys
import time

from ..base import lean
from .slurm_jobs import SCRIPT, Ledger
from .slurm_nodes import FAILED, NODES, expand
from .slurm_options import Table, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Tuple

#: When the run is ended by its time limit, in seconds since 1970.
ENDS = "SLURM_JOB_END_TIME"
_SQUEUE = Table(
    {"M": "clusters", "O": "Format", "S": "sort", "a": "all", "h": "noheader", "i": "iterate",
     "j": "jobs", "l": "long", "n": "name", "o": "format", "p": "partition", "q": "qos", "r": "array",
     "t": "states", "u": "user", "v": "verbose", "w": "nodelist"},
    "Format account clusters format iterate jobs licenses name nodelist partition qos reservation sort"
    " states steps user users",
    "",
    "all array hide long me noheader noconvert start verbose",
)  # fmt: skip
_USUAL = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_LONG = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
#: The letters of ``--format``: the heads of their columns, and their names in ``--Format``.
_COLUMNS = {
    "A": ("JOBID", "jobarrayid"), "C": ("CPUS", "numcpus"), "D": ("NODES", "numnodes"),
    "L": ("TIME_LEFT", "timeleft"), "M": ("TIME", "timeused"), "N": ("NODELIST", "nodelist"),
    "P": ("PARTITION", "partition"), "R": ("NODELIST(REASON)", "reasonlist"),
    "S": ("START_TIME", "starttime"), "T": ("STATE", "state"), "U": ("UID", "userid"),
    "Z": ("WORK_DIR", "workdir"), "e": ("END_TIME", "endtime"), "i": ("JOBID", "jobid"),
    "j": ("NAME", "name"), "l": ("TIME_LIMIT", "timelimit"), "o": ("COMMAND", "command"),
    "r": ("REASON", "reason"), "t": ("ST", "statecompact"), "u": ("USER", "username"),
}  # fmt: skip
_PLACE = re.compile(r"%(\.?)0?([0-9]{0,4})([A-Za-z%])")


def duration(seconds: float) -> str:
    """Return seconds as Slurm writes them: ``1-02:03:04``, ``2:03:04`` or ``3:04``."""
    left, second = divmod(int(max(0.0, seconds)), 60)
    hours, minute = divmod(left, 60)
    days, hour = divmod(hours, 24)
    if days:
        return "%d-%02d:%02d:%02d" % (days, hour, minute, second)
    return "%d:%02d:%02d" % (hour, minute, second) if hour else "%d:%02d" % (minute, second)


def values(env: Dict[str, str], now: float) -> Dict[str, str]:
    """Return what is known of the job that asks, by the letters of ``squeue --format``."""
    start, end = (float(env.get(name) or 0) for name in ("SLURM_JOB_START_TIME", ENDS))
    nodes = env.get("SLURM_JOB_NODELIST", "")
    job = env.get("SLURM_JOB_ID", "0")
    return {
        "%": "%", "A": job, "C": env.get("SLURM_NTASKS", "1"), "D": env.get("SLURM_NNODES", "1"),
        "L": duration(end - now) if end else "UNLIMITED", "M": duration(now - start), "N": nodes,
        "P": "launcher", "R": nodes, "S": _moment(start), "T": "RUNNING", "U": str(os.getuid()),
        "Z": env.get("SLURM_SUBMIT_DIR", ""), "e": _moment(end) if end else "N/A", "i": job,
        "j": env.get("SLURM_JOB_NAME", ""), "l": duration(end - start) if end else "UNLIMITED",
        "o": env.get(SCRIPT, "") or "(null)", "r": "None", "t": "R",
        "u": env.get("SLURM_JOB_USER", ""),
    }  # fmt: skip


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def line(pattern: str, of: Dict[str, str]) -> str:
    """Return a line of ``squeue --format``; letters that are not known here are N/A."""

    def one(found: re.Match[str]) -> str:
        right, width, letter = found.groups()
        text = of.get(letter, "N/A")
        if not width:
            return text
        text = text[: int(width)]
        return text.rjust(int(width)) if right else text.ljust(int(width))

    return _PLACE.sub(one, pattern)


def _pattern(names: str) -> str:
    """Return ``--Format``, such as ``JobID:10,TimeLeft``, as a ``--format``. Raises Wrong."""
    letters = {long: letter for letter, (_, long) in _COLUMNS.items()}
    found = ""
    for word in names.split(","):
        name, _, width = word.partition(":")
        if name.lower() not in letters:
            raise Wrong("--Format=%s: known are %s" % (name, ", ".join(sorted(letters))))
        found += "%%%s%s%s" % (
            "." if width.startswith(".") else "",
            width.strip(".") or "20",
            letters[name.lower()],
        )
    return found


def squeue(run_dir: str, words: List[str]) -> int:
    """Run ``squeue``, which knows this job alone, and those that it has started. Raises Wrong."""
    options, rest = _SQUEUE.parse(words)
    if rest:
        raise Wrong("unrecognized argument '%s'" % rest[0])
    of = values(dict(os.environ), time.time())
    asked = [one for one in options.get("jobs", "").split(",") if one]
    ended = Ledger(run_dir).ended()
    if len(asked) == 1 and asked[0] != of["i"] and asked[0] not in ended:
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return FAILED
    chosen: List[Tuple[str, Tuple[str, ...]]] = [
        (options.get("jobs", ""), (of["i"],)),
        (options.get("name", ""), (of["j"],)),
        (options.get("user", options.get("users", "")), (of["u"], of["U"])),
        (options.get("states", "").upper(), ("R", "RUNNING", "ALL")),
    ]
    is_shown = all(not said or set(said.split(",")) & set(own) for said, own in chosen)
    pattern = options.get("format") or (_LONG if "long" in options else _USUAL)
    if "Format" in options:
        pattern = _pattern(options["Format"])
    if "noheader" not in options:
        print(line(pattern, {letter: head for letter, (head, _) in _COLUMNS.items()}))
    if is_shown:
        print(line(pattern, of))
    return 0


def scontrol(words: List[str]) -> int:
    """Run ``scontrol show hostnames [LIST]`` or ``show job [ID]``. Raises Wrong."""
    words = [word for word in words if not word.startswith("-")]
    if words[:1] == ["requeue"]:
        raise Wrong(
            "requeue: no queue starts this run again. `launcher run --from RUN job.sbatch` on your own"
            " machine does, with its outputs; --max-restarts N does after a failure"
        )
    if words[:1] != ["show"] or words[1:2] not in (
        ["hostnames"], ["hostname"], ["hostlist"], ["job"], ["jobs"],
    ):  # fmt: skip
        raise Wrong(
            "only `scontrol show hostnames [LIST]` and `show job` are known in a run of launcher"
        )
    if words[1] in ("job", "jobs"):
        return _show_job(words[2:])
    given = words[2:] or [os.environ.get("SLURM_JOB_NODELIST", "")]
    if words[1] == "hostlist":
        print(",".join(given))
    else:
        print("\n".join(name for text in given for name in expand(text)))
    return 0


def _show_job(asked: List[str]) -> int:
    env = dict(os.environ)
    of = values(env, time.time())
    if asked and asked[0] != of["i"]:
        sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
        return FAILED
    print(
        "JobId=%(i)s JobName=%(j)s\n"
        "   UserId=%(u)s(%(U)s)\n"
        "   JobState=RUNNING Reason=None Dependency=(null)\n"
        "   RunTime=%(M)s TimeLimit=%(l)s TimeMin=N/A\n"
        "   StartTime=%(S)s EndTime=%(e)s\n"
        "   NodeList=%(N)s\n"
        "   NumNodes=%(D)s NumTasks=%(C)s\n"
        "   Command=%(o)s\n"
        "   WorkDir=%(Z)s" % of
    )
    for node in lean.loads(env[NODES]):
        if node["gpus"]:
            print("   Nodes=%s GRES=gpu:%d" % (node["address"], len(node["gpus"])))
    return 0
