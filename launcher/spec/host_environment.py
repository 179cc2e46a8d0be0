"""Read the ``environment:`` of a host in an inventory: what jobs run in there that name none, or that
name this one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .environments import Environment, conda_name_of, conda_on_host, folder
from .yaml_document import TEXT, TEXTS, Key, YamlNode, checked, read, text, texts
from .yaml_document import schema as mapping_schema

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+:-]{0,200}\Z")
#: Stands for no environment, where the defaults of an inventory have one.
NONE = "none"


def read_modules(node: YamlNode) -> tuple[str, ...]:
    """Return the names of environment modules. Raises DocumentError."""
    names = texts(node)
    if wrong := wrong_module(names):
        raise node.error(*wrong)
    return names


def wrong_module(names: Sequence[str]) -> tuple[str, str] | None:
    """Return what to say of the first name that no environment module has, and the hint."""
    for name in names:
        if not _MODULE.match(name):
            return f"{name!r} cannot be the name of a module", "such as cuda/12.4"
    return None


#: What a job may name and a host may not, with the reason.
_OF_JOBS = {
    "uv": "uv: is a path in the code of a job",
    "pixi": "pixi: is a path in the code of a job",
    "wheels": "wheels: is for uv, which is a path in the code of a job",
    "image": "an image is of a job or a role: all of its hosts have the same",
    "runtime": "runtime: is for images, and an image is of a job or a role",
    "mounts": "mounts: is for images, and an image is of a job or a role",
}
_KEYS: Mapping[str, Key] = {
    "conda": Key(
        checked(conda_on_host),
        TEXT,
        "Environment of conda, mamba, micromamba or pixi on the host: its name, or its folder",
    ),
    "venv": Key(checked(folder), TEXT, "Folder of a virtual environment on the host"),
    "modules": Key(read_modules, TEXTS, "Environment modules of jobs that name none"),
    "name": Key(
        checked(conda_name_of),
        TEXT,
        "What jobs call it: conda: NAME of a job means this one here (default: its own name)",
    ),
}
SCHEMA: Mapping[str, Any] = {"oneOf": [mapping_schema(_KEYS), {"const": NONE}]}


def read_host_environment(node: YamlNode) -> Mapping[str, Any]:
    """Return the fields of a host that its ``environment:`` stands for. Raises DocumentError."""
    if isinstance(node.yaml, yaml.ScalarNode):
        if text(node) != NONE:
            raise node.error(
                f"environment is {text(node)!r}", f"{{conda: NAME}}, {{venv: DIR}}, or {NONE}"
            )
        return {"environment": None, "modules": ()}
    for name, key_node, _ in node.items("a mapping, as {conda: train}"):
        if name in _OF_JOBS:
            raise key_node.error(
                f"{_OF_JOBS[name]}, so a host has none", "environment: of a job file names it"
            )
    found = read(node, _KEYS, "environment")
    kinds = [kind for kind in ("conda", "venv") if kind in found]
    if len(kinds) > 1:
        raise node.error(
            "environment: names conda and venv, and a host has one", "leave one of them out"
        )
    if "name" in found and not kinds:
        raise node.error("environment: name is for conda or venv alone", "{conda: DIR, name: NAME}")
    named = {name: found[name] for name in (*kinds, "name") if name in found}
    return {
        "environment": Environment(**named) if kinds else None,
        "modules": found.get("modules", ()),
    }
