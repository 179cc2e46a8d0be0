"""Polyaxon experiments: the environment of version 0.x, with its topology for each framework.

Source: Polyaxon, "Distributed Experiments".
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...spec.yaml_document import YamlNode, text, texts
from ..inventories.source import Text, entries, unread
from . import polyaxon_run
from .resources import share
from .result import Task
from .templates import Values, filled

#: Their section: our framework, and what the master, the workers and the servers are called here.
_TOPOLOGIES = {
    "tensorflow": ("tensorflow", "chief", "worker", "ps"),
    "mxnet": ("mxnet", "scheduler", "worker", "server"),
    "pytorch": ("torch", "master", "worker", ""),
}
#: Theirs where all processes are alike and start together: ours of the same name.
_ALIKE = ("horovod", "mpi")
_KNOWN = ("version", "kind", "name", "environment", "run", "declarations", "params")
_MIB = "MiB"  # what a number for memory means there


def read(content: Text, task: Task) -> None:
    """One experiment, of either kind."""
    root = content.yaml()
    given = entries(root, "an experiment")
    if polyaxon_run.is_one(given):
        polyaxon_run.read(root, task)
        return
    unread(task, root, _KNOWN, "the experiment")
    if "kind" in given and text(given["kind"][1]) != "experiment":
        raise root.error("only kind: experiment can be carried over, and operations with run:")
    if "name" in given:
        task.name(text(given["name"][1]), given["name"][0])
    if "environment" in given:
        _environment(task, given["environment"][1])
    values = Values()
    for key in ("declarations", "params"):
        if key in given:
            values.add(task, given[key][1], key)
    _command(task, given, values)
    values.tell(task)


def _command(task: Task, given: dict[str, tuple[int, YamlNode]], values: dict[str, str]) -> None:
    if "run" not in given:
        task.values["run"] = "train.py"
        task.note(0, "it does not say what to run: put your command in the place of train.py")
        return
    line, node = given["run"]
    if isinstance(node.yaml, yaml.MappingNode):
        unread(task, node, ("cmd",), "run")
        inside = entries(node, "a command")
        if "cmd" not in inside:
            raise node.error("run has no cmd")
        line, node = inside["cmd"]
    script = " && ".join(filled(one, values, task, line) for one in texts(node))
    if task.framework != "env" and re.search(r"[;&|<>$`\n]", script):
        task.values["run"] = ["bash", "-ec", script]
    else:
        task.values["run"] = script


def _environment(task: Task, node: YamlNode) -> None:
    inside = entries(node, "an environment")
    topologies = [name for name in (*_TOPOLOGIES, *_ALIKE) if name in inside]
    unread(task, node, ("resources", "env_vars", *topologies[:1]), "the environment")
    if len(topologies) > 1:
        raise inside[topologies[1]][1].error(f"{' and '.join(topologies)}: one of them")
    if topologies and topologies[0] in _TOPOLOGIES:
        task.framework = _TOPOLOGIES[topologies[0]][0]
    elif topologies:
        task.framework = topologies[0]
    if "env_vars" in inside:
        pairs = [(e.line, texts(e)) for e in inside["env_vars"][1].elements()]
        task.variables((pair[0], "".join(pair[1:]), line) for line, pair in pairs if pair)
    line, resources = inside.get("resources", (0, None))
    master = share(task, resources, _MIB) if resources is not None else {}
    if not topologies:
        _single(task, master, line)
    elif topologies[0] in _ALIKE:
        _alike(task, inside[topologies[0]][1])
    else:
        _roles(task, inside[topologies[0]][1], topologies[0], master)


def _single(task: Task, master: dict[str, Any], line: int) -> None:
    if "gpus" in master:
        task.values["resources"] = {"gpus": master["gpus"]}
    if set(master) - {"gpus"}:
        task.note(line, "limits of cpu and memory are those of roles here: not carried over")


def _alike(task: Task, node: YamlNode) -> None:
    unread(task, node, ("n_workers", "default_worker"), task.framework)
    task.values["num_nodes"] = 1 + _count(task, node, "n_workers")
    task.note(node.line, "one host for each worker and the master, a process a GPU: num_nodes")
    default = entries(node).get("default_worker")
    if default is not None and "resources" in entries(default[1]):
        each = share(task, entries(default[1])["resources"][1], _MIB)
        if each.get("gpus"):
            task.gpus(int(each["gpus"]), default[0])
        if set(each) - {"gpus"}:
            task.note(default[0], f"{task.framework} has no limits of cpu and memory: left out")


def _roles(task: Task, node: YamlNode, section: str, master: dict[str, Any]) -> None:
    _, first, worker, server = _TOPOLOGIES[section]
    kinds = {"worker": ("n_workers", worker), **({"ps": ("n_ps", server)} if server else {})}
    known = [count for count, _ in kinds.values()]
    for kind in kinds:
        known += [kind, f"default_{kind}", f"{kind}_resources", f"default_{kind}_resources"]
    unread(task, node, tuple(known), section)
    roles = {first: {"resources": master} if master else {"replicas": 1}}
    for kind, (counter, role) in kinds.items():
        count = _count(task, node, counter)
        if count:
            roles[role] = {"replicas": count, **_of_kind(task, node, kind, count)}
    task.values["roles"] = roles


def _of_kind(task: Task, node: YamlNode, kind: str, count: int) -> dict[str, Any]:
    """Default and overrides: what one has by its index stands there in the place of the default."""
    inside = entries(node)
    default: dict[str, Any] = {}
    for key in (f"default_{kind}", f"default_{kind}_resources"):
        if key in inside:
            default = _resources(task, inside[key][1])
    overrides = {}
    for key in (kind, f"{kind}_resources"):
        for one in inside[key][1].elements() if key in inside else ():
            found = entries(one, "one process")
            if "index" not in found or not text(found["index"][1]).isdigit():
                raise one.error(f"{key} says nothing of its index")
            index = int(text(found["index"][1]))
            if index >= count:
                raise one.error(f"{kind} has no process {index}: its indices are 0 to {count - 1}")
            own = _resources(task, one)
            gone = [name for name in ("cpus", "memory") if name in default and name not in own]
            if gone:
                what = " and ".join(gone)
                task.note(one.line, f"{kind} {index} has no limit of {what}: here that of its role")
            overrides[index] = {"resources": {**({"gpus": 0} if "gpus" in default else {}), **own}}
    return {
        **({"resources": default} if default else {}),
        **({"overrides": overrides} if overrides else {}),
    }


def _resources(task: Task, node: YamlNode) -> dict[str, Any]:
    """Under ``resources``, or, in an older form, right there."""
    inside = entries(node)
    if "resources" in inside:
        unread(task, node, ("index", "resources"), "one process")
        return share(task, inside["resources"][1], _MIB)
    pairs = [pair for pair in node.yaml.value if pair[0].value != "index"]
    plain = yaml.MappingNode(node.yaml.tag, pairs, node.yaml.start_mark, node.yaml.end_mark)
    return share(task, YamlNode(plain, node.source), _MIB)


def _count(task: Task, node: YamlNode, name: str) -> int:
    line, value = entries(node).get(name, (0, None))
    if value is None:
        return 0
    if not re.fullmatch("[0-9]{1,4}", text(value)):
        raise task.error(line, f"{name} is a whole number")
    return int(text(value))
