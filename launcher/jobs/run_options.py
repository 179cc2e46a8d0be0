"""Options of a run that a job file and settings may hold, besides what makes the job. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..spec import nodeset
from ..spec.rates import rate
from ..spec.yaml_document import SCALAR, TEXT, TEXTS, Key, YamlNode, checked, text, texts, truth
from .durations import more_than_nothing, seconds, wait_time

ON_STALL = ("report", "stop")
#: The layers of a job that hold for many runs: the user's settings, and those of the folder.
SETTINGS = ("user", "project")
#: Stands for no project, where settings name one.
NO_PROJECT = "none"
#: Priorities in the queue, by their word.
PRIORITIES = {"low": -1, "normal": 0, "high": 1}


def _on_stall(value: str) -> str:
    if value not in ON_STALL:
        raise ValueError(f"on_stall must be {' or '.join(ON_STALL)}, not {value!r}")
    return value


def _priority(value: str) -> str:
    if value not in PRIORITIES:
        raise ValueError(f"priority must be {', '.join(PRIORITIES)}, not {value!r}")
    return value


def _notify(node: YamlNode) -> tuple[str, ...]:
    to = texts(node)
    if not all(one.strip() for one in to):
        raise node.error("notify is empty", "a URL, desktop, bell, apprise:URL, or a command")
    return to


#: Options by key: flags are named alike, but for ``check``, which is ``--no-check``.
OPTIONS: Mapping[str, Key] = {
    "inventory": Key(text, TEXT, "Inventory file, relative to this file"),
    "pull_every": Key(checked(seconds), SCALAR, "Bring outputs back this often (default: 30s)"),
    "lost_after": Key(
        checked(seconds), SCALAR, "Treat a host as lost after this without an answer (default: 5m)"
    ),
    "orphan_timeout": Key(
        checked(more_than_nothing),
        SCALAR,
        "Hosts stop the run when no launcher contacted them for this long (default: never)",
    ),
    "stall_timeout": Key(
        checked(more_than_nothing),
        SCALAR,
        "Report when no rank makes progress for this long (default: 10m)",
    ),
    "on_stall": Key(checked(_on_stall), {"enum": list(ON_STALL)}, "On a stall: report, or stop"),
    "max_rate": Key(
        checked(rate),
        SCALAR,
        "Limit of what travels between this machine and the hosts, such as 50MB/s (default: none)",
    ),
    "wait": Key(
        checked(wait_time), SCALAR, "Wait this long for a turn where GPUs are in use, or forever"
    ),
    "time": Key(checked(more_than_nothing), SCALAR, "End the run this long after its start"),
    "priority": Key(checked(_priority), {"enum": list(PRIORITIES)}, "Whose turn comes first"),
    "project": Key(text, TEXT, "Project of the inventory in whose name it uses GPUs"),
    "preemptible": Key(
        truth, {"type": "boolean"}, "Borrow beyond the quota of its project, and give GPUs back"
    ),
    "ignore_foreign": Key(
        truth, {"type": "boolean"}, "Share GPUs with programs outside launcher where it must"
    ),
    "from": Key(
        text,
        TEXT,
        "RUN or RUN:PATH: hosts get its outputs at the same paths before the start",
    ),
    "notify": Key(
        _notify,
        TEXTS,
        "Tell of the end, a stall or a lost host: a URL, desktop, bell, apprise:URL, or a command",
    ),
    "tags": Key(texts, TEXTS, "Tags of the run: `launcher ls --tag` finds it"),
    "note": Key(text, TEXT, "A note about the run"),
    "check": Key(truth, {"type": "boolean"}, "Check hosts before the start (default: true)"),
    "detach": Key(truth, {"type": "boolean"}, "Return once all ranks have started"),
    "stdin": Key(truth, {"type": "boolean"}, "Rank 0 reads what launcher has on its stdin"),
    "ranks": Key(checked(nodeset.expand_ranks), SCALAR, "Show only these ranks: 0,3-5"),
    "raw": Key(truth, {"type": "boolean"}, "Pass escape sequences from hosts to the terminal"),
}
