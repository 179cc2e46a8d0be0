"""Read batch scripts of Slurm: their ``#SBATCH`` lines, and the script itself as it is.

Source: sbatch(1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from ...frameworks.sbatch import SIGNAL, TASKS_PER_NODE
from ...frameworks.slurm import ELEMENT
from ...jobs.script_log import is_inside
from ...spec.frozen import frozen
from ...spec.model import SCRIPT_LOGS
from ...spec.nodeset import expand
from ..draft import quoted
from ..source import Text
from .draft import JobDraft

#: Short options, by their long names.
_SHORT = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile",
    "G": "gpus", "H": "hold", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes",
    "O": "overcommit", "Q": "quiet", "S": "core-spec", "V": "version", "W": "wait", "a": "array",
    "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error", "h": "help", "i": "input",
    "k": "no-kill", "m": "distribution", "n": "ntasks", "o": "output", "p": "partition", "q": "qos",
    "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
#: Those without a value.
_ALONE = frozenset(
    ("consolidate-segments", "contiguous", "help", "hold", "ignore-pbs", "no-requeue", "overcommit",
     "oversubscribe", "parsable", "quiet", "reboot", "requeue", "spread-job", "stepmgr", "test-only",
     "usage", "use-min-nodes", "verbose", "version", "wait")
)  # fmt: skip
#: Those with a value only behind ``=`` or the letter.
_MAYBE = frozenset(
    ("exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports")
)
#: Why options are left out that say something here.
_LEFT_OUT = {
    **dict.fromkeys(
        ("output", "error"),
        "it is outside of the workdir; the run's log has all of it: launcher logs RUN",
    ),
    "dependency": "launcher wait RUN, then launcher run",
    "exclude": "choose hosts: hosts: or --hosts",
    "requeue": "max_restarts: restarts after a failure",
    "chdir": "the script starts in the copy of the workdir",
    "exclusive": "GPUs are the run's own, processors and memory are not",
    "partition": "hosts come from the inventory: hosts: or --hosts",
    "constraint": "choose hosts by a label: hosts:, or a model of GPUs: A100:4",
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), "memory is limited by roles alone"),
    "signal": "it is no signal that is known here, such as B:USR1@60",
    "mail-user": "notify: tells of the end",
    "mail-type": "notify: tells of the end",
    "begin": "launcher run --at",
}
_ENDLESS = ("0", "infinite", "unlimited", "-1")
#: The end of the note on an array.
IS_A_SWEEP = "the array is a sweep: launcher sweep FILE"
#: Elements of an array at most.
MOST = 10_000


@frozen
class Directive:
    """An option of a ``#SBATCH`` line, by its long name."""

    name: str
    value: str
    line: int


def is_batch_script(content: str) -> bool:
    """Return whether a file is a script with ``#SBATCH`` lines."""
    return content.startswith("#!") and bool(re.search(r"(?m)^#SBATCH\s", content))


def read(content: Text, draft: JobDraft) -> None:
    """Read a batch script. Raises DocumentError."""
    draft.framework = "sbatch"
    found: dict[str, Directive] = {}
    for one in _directives(content, draft):
        if one.name == "hetjob":
            raise draft.error(one.line, "a heterogeneous job is not one run", "use roles:")
        found[one.name] = one
    if "job-name" in found:
        draft.name(found["job-name"].value, found["job-name"].line)
    _sizes(draft, found)
    if (limit := found.get("time")) and limit.value.lower() not in _ENDLESS:
        draft.values["time"] = f"{_seconds(draft, limit)}s"
    if hosts := found.get("nodelist"):
        draft.values["hosts"] = hosts.value
    if cores := found.get("cpus-per-task"):
        draft.variables([("SLURM_CPUS_PER_TASK", str(_number(draft, cores)), cores.line)])
    if elements := found.get("array"):
        _array(draft, elements)
    _logs(draft, found)
    _signal(draft, found)
    _note_others(draft, found)
    draft.values["run"] = _script(content, draft)


def _logs(draft: JobDraft, found: dict[str, Directive]) -> None:
    """Set the files of the workdir that have the script's log, besides the run's own."""
    for option, variable in zip(("output", "error"), SCRIPT_LOGS, strict=True):
        if (one := found.get(option)) and is_inside(one.value):
            draft.variables([(variable, one.value, one.line)])
            del found[option]


#: A signal before the time is over, for the script alone (B) or its steps. Also in
#: agent/mesh/slurm_signals.py, which sends it.
_SIGNAL = re.compile(
    r"(?:[RB]{1,2}:)?(?:SIG)?"
    r"(?:ABRT|ALRM|CONT|HUP|INT|KILL|QUIT|STOP|TERM|TSTP|TTIN|TTOU|URG|USR1|USR2|[1-9]|[1-5]\d)"
    r"(?:@\d{1,5})?",
    re.I,
)


def _signal(draft: JobDraft, found: dict[str, Directive]) -> None:
    """Have the script or its tasks get a signal before the time is over."""
    one = found.get("signal")
    if one is None or not _SIGNAL.fullmatch(one.value):
        return
    draft.variables([(SIGNAL, one.value, one.line)])
    del found["signal"]
    if "time" not in found:
        draft.note(one.line, f"--signal={one.value} comes only with a time limit: --time")


def _note_others(draft: JobDraft, found: dict[str, Directive]) -> None:
    for one in found.values():
        if one.name not in _READ:
            shown = f"--{one.name}" + (f"={one.value[:60]}" if one.value else "")
            why = _LEFT_OUT.get(one.name)
            draft.note(one.line, f"{shown} is not carried over" + (f": {why}" if why else ""))


def _script(content: Text, draft: JobDraft) -> str:
    """Return the script for our shell. Raises DocumentError if it is for no shell."""
    first, _, rest = content.content.partition("\n")
    shell = first if first.startswith("#!") else ""
    if shell and not re.search(r"\b(ba|da|z|k)?sh\b", shell):
        raise draft.error(1, f"{quoted(shell)} is not a shell: the script would run under bash")
    # A batch script continues after a command that failed; our shell would stop there.
    return "set +e\n" + (rest if shell else content.content)


_READ = frozenset(
    ("job-name", "nodes", "ntasks", "ntasks-per-node", "gpus", "gpus-per-node", "gpus-per-task", "gres",
     "time", "nodelist", "cpus-per-task", "array")
)  # fmt: skip


def _directives(content: Text, draft: JobDraft) -> Iterator[Directive]:
    """Yield the options of all ``#SBATCH`` lines in front of the first command."""
    is_behind = False
    for number, line in enumerate(content.content.split("\n"), 1):
        if not line.startswith("#SBATCH"):
            is_behind = is_behind or bool(line.strip() and not line.startswith("#"))
            continue
        if is_behind:
            draft.note(number, "it stands behind a command, where sbatch does not read it")
            continue
        try:
            words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
        except ValueError as error:
            raise draft.error(number, f"#SBATCH: {error}") from None
        while words:
            yield _option(draft, words, number)


def _option(draft: JobDraft, words: list[str], line: int) -> Directive:
    """Take an option from the front of words. Raises DocumentError."""
    draft.spend(line)
    word = words.pop(0)
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        is_whole = bool(equals) or name in _ALONE or name in _MAYBE
    elif word == "hetjob":
        return Directive("hetjob", "", line)
    elif word.startswith("-") and word[1:2] in _SHORT:
        name, value = _SHORT[word[1]], word[2:].removeprefix("=")
        if name in _ALONE and value:  # more letters: -vQ
            words.insert(0, f"-{value}")
            value = ""
        is_whole = bool(value) or name in _ALONE or name in _MAYBE
    else:
        raise draft.error(line, f"#SBATCH {quoted(word)} is not an option of sbatch")
    if not is_whole:
        if not words:
            raise draft.error(line, f"{quoted(word)} has no value")
        value = words.pop(0)
    return Directive(name, value, line)


def _number(draft: JobDraft, one: Directive) -> int:
    if not re.fullmatch("[0-9]{1,6}", one.value) or not int(one.value):
        raise draft.error(one.line, f"--{one.name}={one.value[:60]}: not a number")
    return int(one.value)


def _sizes(draft: JobDraft, found: dict[str, Directive]) -> None:
    """Set the numbers of nodes, tasks and GPUs."""
    total = _number(draft, found["ntasks"]) if "ntasks" in found else None
    most = _number(draft, found["ntasks-per-node"]) if "ntasks-per-node" in found else None
    nodes = _nodes(draft, found, total, most)
    tasks = most or 1
    if total is not None:
        tasks, rest = divmod(total, nodes)
        if rest or not tasks:
            raise draft.error(
                found["ntasks"].line,
                f"--ntasks={total} do not fit on {nodes} nodes alike",
                "--ntasks-per-node",
            )
        if most is not None and tasks > most:
            raise draft.error(
                found["ntasks-per-node"].line,
                f"--ntasks={total} do not fit: at most {most} on each of {nodes} nodes",
                "leave out one of --nodes, --ntasks and --ntasks-per-node",
            )
    each, model, line = _gpus(draft, found, nodes, tasks)
    is_anywhere = found.keys().isdisjoint(("nodes", "nodelist", "ntasks-per-node"))
    if is_anywhere and each == tasks > 1 and not found.keys().isdisjoint(("gpus", "gpus-per-task")):
        # One task for each GPU, wherever these are.
        del draft.values["num_nodes"]
    elif is_anywhere and tasks > 1:
        draft.note(
            found["ntasks"].line,
            f"without --nodes, all {tasks} tasks start on one host: add --nodes for more",
        )
    if not each:
        draft.values["resources"] = {"nproc_per_node": tasks}
        return
    draft.gpus(each, line, model)
    if tasks != each:
        draft.values["envs"] = {TASKS_PER_NODE: str(tasks)}


def _nodes(
    draft: JobDraft, found: dict[str, Directive], total: int | None, most: int | None
) -> int:
    """Set and return the number of nodes: the least, or what nodes or tasks that are named need."""
    nodes = 1
    if one := found.get("nodes"):
        least, dash, _ = one.value.partition("-")
        nodes = _number(draft, Directive("nodes", least, one.line))
        if dash:
            draft.note(one.line, f"of --nodes={one.value} the least is taken")
    elif one := found.get("nodelist"):
        try:
            nodes = len(expand(one.value))
        except ValueError as error:
            raise draft.error(one.line, f"--nodelist: {error}") from None
    elif total and most:
        nodes = -(-total // most)
    draft.values["num_nodes"] = nodes
    return nodes


def _gpus(
    draft: JobDraft, found: dict[str, Directive], nodes: int, tasks: int
) -> tuple[int, str, int]:
    """Return the GPUs of each node, their model and the line that says so."""
    for name in ("gpus-per-node", "gres", "gpus-per-task", "gpus"):
        one = found.get(name)
        if one is None:
            continue
        for part in one.value.split(","):
            words = part.split(":")
            if name == "gres" and words.pop(0) != "gpu":
                draft.note(one.line, f"--gres={part[:60]} is not carried over")
                continue
            number = words.pop() if words and words[-1].isdecimal() else "1"
            if number == "0":
                return 0, "", 0
            count = _number(draft, Directive(name, number, one.line))
            if name == "gpus-per-task":
                count *= tasks
            elif name == "gpus":
                if count % nodes:
                    raise draft.error(one.line, f"{count} GPUs do not fit on {nodes} nodes alike")
                count //= nodes
            return count, words[0] if words else "", one.line
    return 0, "", 0


def _seconds(draft: JobDraft, one: Directive) -> int:
    """Return the seconds of ``MM``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``."""
    if not re.fullmatch(r"(\d{1,4}-\d{1,4}(:\d{1,4}){0,2}|\d{1,6}(:\d{1,4}){0,2})", one.value):
        raise draft.error(one.line, f"--time={one.value[:60]}: not a time", "such as 1-12:00:00")
    days, dash, rest = one.value.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _array(draft: JobDraft, one: Directive) -> None:
    """Make a sweep of an array."""
    text, _, most = one.value.partition("%")
    values: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", part)
        if not match:
            raise draft.error(one.line, f"--array={one.value[:60]}: not a list of numbers")
        first, last = int(match[1]), int(match[2] or match[1])
        values += range(first, last + 1, int(match[3] or 1) or 1)
        if not values or len(values) > MOST:
            raise draft.error(one.line, f"--array={one.value[:60]}: 1 to {MOST} elements")
    name = f"{{{{params.{ELEMENT}}}}}"
    counts = {"COUNT": len(values), "MIN": min(values), "MAX": max(values)}
    draft.values["envs"] = {
        **draft.values.get("envs", {}),
        ELEMENT: name,
        **{f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in counts.items()},
    }
    draft.values["matrix"] = {ELEMENT: [str(value) for value in values]}
    if most:
        draft.values["sweep"] = {"concurrency": _number(draft, Directive("array", most, one.line))}
    draft.note(one.line, IS_A_SWEEP)
