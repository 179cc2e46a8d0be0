"""Polyaxon operations (version 1 and 2) whose run is a distributed job: roles with replicas.

Source: Polyaxon, "Distributed jobs".
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...spec.yaml_document import YamlNode, text, texts
from ..inventories.source import entries, unread
from .resources import share
from .result import Task
from .templates import Values, filled, scalars

#: Their kind: our framework, and their names of roles that are others here.
_KINDS = {
    "pytorchjob": ("torch", {}),
    "tfjob": ("tensorflow", {"master": "chief"}),
    "mxjob": ("mxnet", {}),
    "job": ("env", {}),
}
_ROLES = ("master", "chief", "scheduler", "worker", "ps", "server", "evaluator")


def is_one(given: dict[str, tuple[int, YamlNode]]) -> bool:
    """Whether this is an operation or a component, with a run of some kind."""
    if "component" in given:
        return True
    return "run" in given and _has(given["run"][1], "kind")


def _has(node: YamlNode, key: str) -> bool:
    return hasattr(node.yaml, "value") and any(
        isinstance(pair, tuple) and pair[0].value == key for pair in node.yaml.value
    )


def read(root: YamlNode, task: Task) -> None:
    """The component, with the values of its parameters."""
    given = entries(root)
    values = _params(task, given)
    if "component" in given:
        unread(task, root, ("version", "kind", "name", "params", "component"), "the operation")
        root = given["component"][1]
        given = {**{k: v for k, v in given.items() if k == "name"}, **entries(root, "a component")}
        inner = _params(task, given)
        for name in set(inner) - set(values):
            values.one(name, inner[name], given["inputs"][0] if "inputs" in given else 0)
    unread(task, root, ("version", "kind", "name", "params", "inputs", "run"), "the component")
    if "name" in given:
        task.name(text(given["name"][1]), given["name"][0])
    if "run" not in given:
        raise root.error("the component has no run")
    run = given["run"][1]
    inside = entries(run, "a run")
    kind = text(inside["kind"][1]) if "kind" in inside else "job"
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise inside["kind"][1].error(f"a run of kind {kind[:40]!r}", f"can be read: {known}")
    task.framework, names = _KINDS[kind]
    roles = [name for name in _ROLES if name in inside]
    unread(task, run, ("kind", *roles, *(() if roles else ("container",))), "the run")
    if roles:
        task.values["roles"] = {
            names.get(name, name): _role(task, inside[name][1], values) for name in roles
        }
    elif "container" in inside:
        task.values |= _container(task, inside["container"][1], values, {})
    values.tell(task)


def _params(task: Task, given: dict[str, tuple[int, YamlNode]]) -> Values:
    """Values of parameters, and of inputs that have one by themselves."""
    found = Values()
    for one in given["inputs"][1].elements() if "inputs" in given else ():
        unread(task, one, ("name", "value"), "an input")
        inside = entries(one)
        if "name" in inside and "value" in inside:
            found.one(text(inside["name"][1]), text(inside["value"][1]), one.line)
    for name, (line, value) in entries(given["params"][1]).items() if "params" in given else ():
        if _has(value, "value"):
            unread(task, value, ("value",), "a parameter")
            found.one(name, scalars(value).get("value", ""), line)
        elif isinstance(value.yaml, yaml.ScalarNode):
            found.one(name, text(value), line)
        else:
            task.note(line, f"the parameter {name[:60]} has no value: left out")
    return found


def _role(task: Task, node: YamlNode, values: dict[str, str]) -> dict[str, Any]:
    unread(task, node, ("replicas", "container"), "a role")
    inside = entries(node, "a role")
    count = text(inside["replicas"][1]) if "replicas" in inside else "1"
    if not re.fullmatch("[1-9][0-9]{0,3}", count):
        raise task.error(inside["replicas"][0], "replicas is a whole number")
    role: dict[str, Any] = {"replicas": int(count)}
    return _container(task, inside["container"][1], values, role) if "container" in inside else role


def _container(
    task: Task, node: YamlNode, values: dict[str, str], found: dict[str, Any]
) -> dict[str, Any]:
    known = ("image", "command", "args", "env", "resources", "name")
    unread(task, node, known, "the container")
    inside = entries(node, "a container")
    if "image" in inside:
        task.note(inside["image"][0], "its image is not carried over: setup: can install things")
    if "resources" in inside:
        found["resources"] = share(task, inside["resources"][1])
        if task.framework == "env":  # of a job without roles
            found["resources"] = {"gpus": found["resources"].get("gpus", 0)}
            task.note(inside["resources"][0], "limits of cpu and memory are those of roles here")
    if "env" in inside:
        found["envs"] = task.own_variables(_env(task, inside["env"][1], values))
    words = [
        filled(word, values, task, inside[key][0])
        for key in ("command", "args")
        for word in (texts(inside[key][1]) if key in inside else ())
    ]
    if words:
        found["run"] = words
    return found


def _env(task: Task, node: YamlNode, values: dict[str, str]) -> list[tuple[str, str, int]]:
    found = []
    for one in node.elements("a list of variables"):
        unread(task, one, ("name", "value"), "a variable")
        inside = entries(one)
        name = text(inside["name"][1]) if "name" in inside else ""
        if "value" in inside:
            found.append((name, filled(text(inside["value"][1]), values, task, one.line), one.line))
        else:
            task.secret(name)
            task.note(one.line, f"the value of {name[:60]} comes from the environment here")
    return found
