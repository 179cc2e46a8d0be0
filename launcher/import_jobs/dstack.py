"""dstack tasks.

Source: dstack, reference of .dstack.yml, task, and "Distributed tasks".
"""

from __future__ import annotations

import re

import yaml

from ..document import Node, text, texts
from ..imports.text import Text, entries, unread
from .found import Task

_KNOWN = ("type", "name", "nodes", "env", "commands", "resources")
_VARIABLES = {
    "DSTACK_NODE_RANK": "$NODE_RANK",
    "DSTACK_NODES_NUM": "$NUM_NODES",
    "DSTACK_MASTER_NODE_IP": "$MASTER_ADDR",
    "DSTACK_GPUS_PER_NODE": "$NUM_TRAINERS",
    "DSTACK_GPUS_NUM": "$((NUM_TRAINERS * NUM_NODES))",
    "DSTACK_RUN_NAME": "$LAUNCHER_RUN_ID",
}


def read(content: Text, task: Task) -> None:
    """One task."""
    root = content.yaml()
    given = entries(root, "a task")
    if "type" not in given or text(given["type"][1]) != "task":
        raise root.error("only type: task can be carried over")
    unread(task, root, _KNOWN, "the task")
    if "name" in given:
        task.name(text(given["name"][1]), given["name"][0])
    if "nodes" in given:
        line, node = given["nodes"]
        if not re.fullmatch("[1-9][0-9]{0,3}", text(node)):
            raise task.error(line, "nodes is a whole number")
        task.values["num_nodes"] = int(text(node))
    if "resources" in given:
        _resources(task, given["resources"][1])
    if "env" in given:
        task.variables(_env(given["env"][1]))
    if "commands" in given:
        line, node = given["commands"]
        script = "\n".join(command.rstrip("\n") for command in texts(node))
        if "DSTACK_NODES_IPS" in script:
            task.note(line, "DSTACK_NODES_IPS is not there: use MASTER_ADDR")
        task.command(script, _VARIABLES)


def _env(node: Node) -> list[tuple[str, str | None, int]]:
    """A mapping, or a list of ``NAME=value`` and of names that come from the environment here."""
    if isinstance(node.yaml, yaml.MappingNode):
        return [(name, text(value), line) for name, (line, value) in entries(node).items()]
    found = []
    for element in node.elements("a list of variables"):
        name, equals, value = text(element).partition("=")
        found.append((name, value if equals else None, element.line))
    return found


def _resources(task: Task, node: Node) -> None:
    unread(task, node, ("gpu",), "resources")
    line, gpu = entries(node, "resources").get("gpu", (0, None))
    if gpu is None:
        return
    if isinstance(gpu.yaml, yaml.MappingNode):
        unread(task, gpu, ("count",), "gpu")
        inside = entries(gpu)
        count = text(inside["count"][1]) if "count" in inside else "1"
    else:
        parts = text(gpu).split(":")
        counts = [part for part in parts if re.fullmatch(r"[0-9]+(\.\.[0-9]*)?", part)]
        count = counts[-1] if counts else "1"
        if parts != counts:
            task.note(line, "kind and memory of the GPU are not carried over: choose by hosts")
    least = re.match(r"[0-9]{1,3}(?![0-9])", count)
    if least is None:
        task.note(line, "a number of GPUs without a lower end is not carried over: say gpus")
        return
    if ".." in count:
        task.note(line, f"of the range of GPUs the least, {least[0]}, is taken")
    task.gpus(int(least[0]), line)
