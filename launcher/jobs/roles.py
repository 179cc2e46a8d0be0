"""Read the ``roles:`` of a job: its kinds of processes, how many of each, and what they take."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..frameworks import Framework
from ..spec.errors import InputError, suggestion
from ..spec.inventory import variables
from ..spec.model import Override, Role, Share
from ..spec.process_key import RESERVED
from ..spec.yaml_document import (
    SCALAR,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Key,
    YamlNode,
    checked,
    read,
    schema,
    text,
    truth,
    whole,
    whole_number,
)
from . import command, environments

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}\Z")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)\Z")
_CODES = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?\Z")


def amount(value: str) -> int:
    """Return ``512MiB``, ``4Gi``, ``4GB`` or ``1.5GiB`` in bytes. Raises ValueError."""
    match = _MEMORY.match(value)
    if not match:
        raise ValueError(f"not an amount of memory: {value!r} (512MiB, 4GiB)")
    base = 1024 if match[3] else 1000
    power = " KMGT".index(match[2]) if match[2] else 0
    return int(float(match[1]) * base**power)


def codes(value: str) -> tuple[tuple[int, int], ...]:
    """Return ``3``, ``11-20`` or ``3,11-20`` as ranges of exit codes. Raises ValueError."""
    found = []
    for part in value.split(","):
        match = _CODES.match(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= 255:
            raise ValueError(f"not exit codes: {value!r} (3, 11-20 or 3,11-20, up to 255)")
        found.append((first, last))
    return tuple(found)


_SHARE: Mapping[str, Key] = {
    "gpus": Key(whole_number(0), whole(0), "GPUs of one process"),
    "cpus": Key(whole_number(1), whole(1), "Cores of one process"),
    "memory": Key(checked(amount), TEXT, "Memory of one process: 512MiB, 4GiB"),
}


def _share(node: YamlNode) -> dict[str, int]:
    return read(node, _SHARE, "resources")


_OVERRIDE: Mapping[str, Key] = {
    "resources": Key(_share, schema(_SHARE), "Resources of this process, instead of the role's"),
    "run": Key(command.read, TEXTS, "Command of this process, instead of the role's"),
    "envs": Key(variables, TEXT_MAP, "More environment variables of this process"),
}
_ON_EXIT: Mapping[str, Key] = {
    "complete": Key(checked(codes), SCALAR, "Exit codes that count as success"),
    "fail": Key(checked(codes), SCALAR, "Exit codes that end the run without a restart"),
    "restart": Key(checked(codes), SCALAR, "Exit codes that restart all processes"),
}


def _overrides(node: YamlNode) -> dict[int, Override]:
    found = {}
    for name, key_node, value in node.items("a mapping of indices to settings"):
        if not name.isdigit():
            raise key_node.error(f'"{name}" is not an index', "the first process of a role is 0")
        found[int(name)] = Override(**read(value, _OVERRIDE, "an override"))
    return found


_ROLE: Mapping[str, Key] = {
    "replicas": Key(whole_number(1), whole(1), "How many processes (default: 1)"),
    "resources": Key(
        lambda node: Share(**_share(node)), schema(_SHARE), "What each process takes of its host"
    ),
    "overrides": Key(
        _overrides,
        {
            "type": "object",
            "propertyNames": {"pattern": "^[0-9]+$"},
            "additionalProperties": schema(_OVERRIDE),
        },
        "Settings of single processes, by index from 0",
    ),
    "run": Key(command.read, TEXTS, "What the processes run (default: the job's run)"),
    "envs": Key(variables, TEXT_MAP, "More environment variables, besides the job's"),
    "setup": Key(text, TEXT, "Shell script to run once on each of its hosts, after the job's"),
    "environment": Key(
        environments.read_role_environment,
        environments.ROLE_SCHEMA,
        "Environment of its processes, instead of the job's: {image: NAME}, {conda: NAME}, {venv: DIR}, "
        "{uv: PATH} or {pixi: PATH}; or none, for what the host has",
    ),
    "spread": Key(
        truth,
        {"type": "boolean"},
        "Put each process on a host of its own if possible, apart from other roles that are spread",
    ),
    "host": Key(text, TEXT, "The host for its processes, by its name in the inventory"),
    "primary": Key(truth, {"type": "boolean"}, "End the run when all processes have succeeded"),
    "lead": Key(truth, {"type": "boolean", "deprecated": True}, "The name of primary until 0.1"),
    "on_exit": Key(
        lambda node: read(node, _ON_EXIT, "on_exit"), schema(_ON_EXIT), "What exit codes mean"
    ),
}
#: What other systems call these keys.
_ELSEWHERE = {
    **dict.fromkeys(("count", "num", "instances", "size", "min_available"), "replicas"),
    **dict.fromkeys(("cpus", "gpus", "memory", "limits"), "resources"),
    **dict.fromkeys(("command", "cmd", "args", "script"), "run"),
    "env": "envs",
}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"oneOf": [schema(_ROLE), {"type": "null"}]},
}


def read_roles(node: YamlNode) -> tuple[Role, ...]:
    """Return the roles of a job. Raises DocumentError."""
    found = []
    for name, key_node, value in node.items("a mapping of names to roles"):
        if not _NAME.match(name) or name in RESERVED:
            raise key_node.error(
                f'"{name}" cannot be the name of a role',
                f"use letters, digits, '_' and '-'; reserved: {', '.join(RESERVED)}",
            )
        known = {} if value.is_empty() else read(value, _ROLE, f"role {name}", _ELSEWHERE)
        if "lead" in known:
            old = f"{value.source}: roles: {name}: lead"
            warnings.warn(f"{old} is now called primary", FutureWarning, stacklevel=1)
            known.setdefault("primary", known.pop("lead"))
        known |= known.pop("environment", {})
        role = Role(name, **known)
        for index in role.overrides:
            if index >= role.replicas:
                raise value.error(
                    f"{name} has no process {index}: its indices are 0 to {role.replicas - 1}"
                )
        found.append(role)
    if not found:
        raise node.expected("at least one role")
    return tuple(found)


def check(roles: tuple[Role, ...], framework: Framework) -> dict[str, tuple[str, str]]:
    """Return errors and hints by role; "" stands for all roles together."""
    cast = framework.cast
    if cast is None and not roles:
        return {}
    if cast is None:
        hint = "framework: torch starts every process on its own"
        return {"": (f"{framework.name} starts all ranks alike and takes no roles", hint)}
    found = {}
    for role in roles:
        if cast.most and role.name not in cast.most:
            known = tuple(cast.most)
            hint = suggestion(role.name, known) or f"its roles: {', '.join(known)}"
            found[role.name] = (f'{framework.name} has no role "{role.name}"', hint)
            continue
        most = cast.most.get(role.name)
        if most is not None and role.replicas > most:
            found[role.name] = (f"{framework.name} has at most {most} {role.name}", "")
        given = [role.envs, *(other.envs for other in role.overrides.values())]
        for variable in [name for envs in given for name in envs]:
            if variable in framework.computed:
                found[role.name] = (f"{variable} is computed for every process", "leave it out")
    missing = [name for name in cast.needs if name not in {role.name for role in roles}]
    if missing and not found:
        found[""] = (f"{framework.name} needs a role {' and a role '.join(missing)}", "")
    return found


def made(roles: tuple[Role, ...], framework: Framework) -> tuple[Role, ...]:
    """Return the roles with their commands split, and primary ones chosen. Raises InputError."""
    for name, (complaint, hint) in check(roles, framework).items():
        raise InputError(f"roles{': ' + name if name else ''}: {complaint}", hint)
    cast = framework.cast
    primaries: frozenset[str] = frozenset()
    if cast is not None and not any(role.primary for role in roles):
        primaries = cast.primaries(frozenset(role.name for role in roles))
    return tuple(
        replace(_made(role, framework), primary=role.primary or role.name in primaries)
        for role in roles
    )


def _made(role: Role, framework: Framework) -> Role:
    run, shell = role.run, role.shell
    if run:
        run, shell = command.split(run, framework, f"roles: {role.name}: run")
    overrides = {}
    for index, other in role.overrides.items():
        if other.run:
            own, is_shell = command.split(other.run, framework, f"roles: {role.name}: {index}")
            other = replace(other, run=own, shell=is_shell)
        overrides[index] = other
    return replace(role, run=run, shell=shell, overrides=overrides)
