"""Read Polyaxon operations (versions 1 and 2): a distributed job has roles with replicas.

Source: Polyaxon, "Distributed jobs".
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...spec.yaml_document import YamlNode, text, texts
from ..source import entries, unread
from .draft import JobDraft
from .resources import share
from .templates import Values, filled, scalars

#: By kind of run: our framework, and our names for roles that we call differently.
_KINDS = {
    "pytorchjob": ("torch", {}),
    "tfjob": ("tensorflow", {"master": "chief"}),
    "mxjob": ("mxnet", {}),
    "job": ("env", {}),
}
_ROLES = ("master", "chief", "scheduler", "worker", "ps", "server", "evaluator")


def is_operation(given: dict[str, tuple[int, YamlNode]]) -> bool:
    """Return whether this is an operation or a component, rather than an experiment."""
    if "component" in given:
        return True
    return "run" in given and _has(given["run"][1], "kind")


def _has(node: YamlNode, key: str) -> bool:
    return hasattr(node.yaml, "value") and any(
        isinstance(pair, tuple) and pair[0].value == key for pair in node.yaml.value
    )


def read(root: YamlNode, draft: JobDraft) -> None:
    """Read the component with the values of its parameters. Raises DocumentError."""
    given = entries(root)
    values = _params(draft, given)
    if "component" in given:
        unread(draft, root, ("version", "kind", "name", "params", "component"), "the operation")
        root = given["component"][1]
        given = {**{k: v for k, v in given.items() if k == "name"}, **entries(root, "a component")}
        inner = _params(draft, given)
        for name in set(inner) - set(values):
            values.one(name, inner[name], given["inputs"][0] if "inputs" in given else 0)
    unread(draft, root, ("version", "kind", "name", "params", "inputs", "run"), "the component")
    if "name" in given:
        draft.name(text(given["name"][1]), given["name"][0])
    if "run" not in given:
        raise root.error("the component has no run")
    run = given["run"][1]
    inside = entries(run, "a run")
    kind = text(inside["kind"][1]) if "kind" in inside else "job"
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise inside["kind"][1].error(
            f"a run of kind {kind[:40]!r} cannot be imported", f"known: {known}"
        )
    draft.framework, names = _KINDS[kind]
    roles = [name for name in _ROLES if name in inside]
    unread(draft, run, ("kind", *roles, *(() if roles else ("container",))), "the run")
    if roles:
        draft.roles(
            {names.get(name, name): _role(draft, inside[name][1], values) for name in roles}
        )
    elif "container" in inside:
        draft.values |= _container(draft, inside["container"][1], values)
    values.note_unused(draft)


def _params(draft: JobDraft, given: dict[str, tuple[int, YamlNode]]) -> Values:
    """Return the values of parameters, and the default values of inputs."""
    found = Values()
    for one in given["inputs"][1].elements() if "inputs" in given else ():
        unread(draft, one, ("name", "value"), "an input")
        inside = entries(one)
        if "name" in inside and "value" in inside:
            found.one(text(inside["name"][1]), text(inside["value"][1]), one.line)
    for name, (line, value) in entries(given["params"][1]).items() if "params" in given else ():
        if _has(value, "value"):
            unread(draft, value, ("value",), "a parameter")
            found.one(name, scalars(value).get("value", ""), line)
        elif isinstance(value.yaml, yaml.ScalarNode):
            found.one(name, text(value), line)
        else:
            draft.note(line, f"parameter {name[:60]} has no value and is left out")
    return found


def _role(draft: JobDraft, node: YamlNode, values: dict[str, str]) -> dict[str, Any]:
    unread(draft, node, ("replicas", "container"), "a role")
    inside = entries(node, "a role")
    count = text(inside["replicas"][1]) if "replicas" in inside else "1"
    if not re.fullmatch("[1-9][0-9]{0,3}", count):
        raise draft.error(inside["replicas"][0], "replicas is a whole number")
    role: dict[str, Any] = {"replicas": int(count)}
    return (
        _container(draft, inside["container"][1], values, role) if "container" in inside else role
    )


def _container(
    draft: JobDraft, node: YamlNode, values: dict[str, str], role: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a container says of a job, or of a role: that is added to it."""
    found = {} if role is None else role
    known = ("image", "command", "args", "env", "resources", "name")
    unread(draft, node, known, "the container")
    inside = entries(node, "a container")
    if "image" in inside:
        draft.image(text(inside["image"][1]), inside["image"][0], role)
    if "resources" in inside:
        found["resources"] = share(draft, inside["resources"][1])
        if draft.framework == "env":  # a job without roles
            found["resources"] = {"gpus": found["resources"].get("gpus", 0)}
            draft.note(
                inside["resources"][0],
                "cpu and memory limits are not carried over: only roles have them",
            )
    if "env" in inside:
        found["envs"] = draft.own_variables(_env(draft, inside["env"][1], values))
    words = [
        filled(word, values, draft, inside[key][0])
        for key in ("command", "args")
        for word in (texts(inside[key][1]) if key in inside else ())
    ]
    if words:
        found["run"] = words
    return found


def _env(draft: JobDraft, node: YamlNode, values: dict[str, str]) -> list[tuple[str, str, int]]:
    found = []
    for one in node.elements("a list of variables"):
        unread(draft, one, ("name", "value"), "a variable")
        inside = entries(one)
        name = text(inside["name"][1]) if "name" in inside else ""
        if "value" in inside:
            found.append(
                (name, filled(text(inside["value"][1]), values, draft, one.line), one.line)
            )
        else:
            draft.secret(name)
            draft.note(one.line, f"the value of {name[:60]} is read from your environment")
    return found
