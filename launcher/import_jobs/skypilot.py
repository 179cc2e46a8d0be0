"""SkyPilot tasks.

Source: SkyPilot, "SkyPilot YAML" and "Distributed Multi-Node Jobs".
"""

from __future__ import annotations

import re

import yaml

from ..document import Node, text
from ..imports.text import Text, entries, entries_or_none, unread
from .found import Task

_KNOWN = ("name", "workdir", "num_nodes", "resources", "envs", "secrets", "setup", "run")
#: Their variables in ours. Of the other nodes' addresses nobody there asks but for the count.
_VARIABLES = {
    "SKYPILOT_NODE_RANK": "$NODE_RANK",
    "SKYPILOT_NUM_NODES": "$NUM_NODES",
    "SKYPILOT_NUM_GPUS_PER_NODE": "$NUM_TRAINERS",
    "SKYPILOT_NODE_IPS": '"$MASTER_ADDR$(for n in $(seq 2 $NUM_NODES); do echo; echo -n node-$n; done)"',
    "SKYPILOT_TASK_ID": "$LAUNCHER_RUN_ID",
}


def read(content: Text, task: Task) -> None:
    """One task; a pipeline of several is not one."""
    root = content.yaml()
    given = entries(root, "a task")
    unread(task, root, _KNOWN, "the task")
    if "name" in given:
        task.name(text(given["name"][1]), given["name"][0])
    if "workdir" in given:
        line, node = given["workdir"]
        if entries_or_none(node) is None:
            task.values["workdir"] = text(node)
        else:
            task.note(line, "a workdir that is a git repository is not carried over: clone it here")
    if "num_nodes" in given:
        line, node = given["num_nodes"]
        if not re.fullmatch("[1-9][0-9]{0,3}", text(node)):
            raise task.error(line, "num_nodes is a whole number")
        task.values["num_nodes"] = int(text(node))
    if "resources" in given and not given["resources"][1].is_empty():
        _resources(task, given["resources"][1])
    task.variables([*_pairs(given, "envs"), *_secrets(task, given)])
    if "setup" in given:
        task.values["setup"] = text(given["setup"][1])
    if "run" in given:
        script = text(given["run"][1])
        if "SKYPILOT_NODE_IPS" in script:
            task.note(given["run"][0], "of SKYPILOT_NODE_IPS the first line alone is an address")
        task.command(script, _VARIABLES)
        # Theirs goes on after a command that failed; ours would end there.
        task.values["run"] = f"set +e\n{task.values['run']}"


def _pairs(given: dict[str, tuple[int, Node]], key: str) -> list[tuple[str, str | None, int]]:
    if key not in given or given[key][1].is_empty():
        return []
    return [
        (name, None if value.is_empty() or value.yaml.value == "" else text(value), line)
        for name, (line, value) in entries(given[key][1]).items()
    ]


def _secrets(task: Task, given: dict[str, tuple[int, Node]]) -> list[tuple[str, str | None, int]]:
    found = _pairs(given, "secrets")
    for name, value, line in found:
        if value is not None:
            task.note(line, f"the value of {name} is not written down: export it before the run")
    return [(name, None, line) for name, _, line in found]


def _resources(task: Task, node: Node) -> None:
    unread(task, node, ("accelerators", "infra"), "resources")
    inside = entries(node, "resources")
    if "infra" in inside:
        line, infra = inside["infra"]
        cloud, _, pool = text(infra).partition("/")
        if cloud == "ssh" and pool:
            task.values["hosts"] = pool
            task.note(line, f"the pool {pool} has to be a group of the inventory")
        else:
            task.note(line, "infra is not carried over: hosts are those of the inventory")
    if "accelerators" in inside:
        line, value = inside["accelerators"]
        if isinstance(value.yaml, yaml.MappingNode):
            (kind, count), *others = [(k, text(v)) for k, (_, v) in entries(value).items()]
        elif isinstance(value.yaml, yaml.ScalarNode):
            (kind, _, count), others = text(value).partition(":"), []
        else:
            task.note(line, "a choice of accelerators is not carried over: say gpus")
            return
        if others or not re.fullmatch("[0-9]{0,3}", count):
            task.note(line, "accelerators are not carried over: say gpus")
            return
        task.note(line, f"the kind of GPU ({kind}) is not carried over: choose by hosts or labels")
        task.gpus(int(count or 1), line)
