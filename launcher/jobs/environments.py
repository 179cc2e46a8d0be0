"""The environment of a job, as its file, flags and settings name it: which Python its hosts use.

A job has one Python: ``python:``, or an environment that brings one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..spec.environments import Environment, conda_environment, folder, inside, wheels_folder
from ..spec.errors import InputError
from ..spec.model import Host, Job
from ..spec.yaml_document import TEXT, TEXTS, Key, YamlNode, checked, read, texts
from ..spec.yaml_document import schema as mapping_schema

_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+:-]{0,200}\Z")


def read_modules(node: YamlNode) -> tuple[str, ...]:
    """Return the names of environment modules. Raises DocumentError."""
    names = texts(node)
    for name in names:
        if not _MODULE.match(name):
            raise node.error(f"{name!r} cannot be the name of a module", "such as cuda/12.4")
    return names


#: What an environment may be, each with what makes its value.
KINDS = {"conda": conda_environment, "venv": folder, "uv": inside}
#: What else an environment may say.
_MORE = {"wheels": wheels_folder}
FIELDS = {**KINDS, **_MORE}
_KEYS: Mapping[str, Key] = {
    "conda": Key(
        checked(conda_environment),
        TEXT,
        "Environment of conda, mamba, micromamba or pixi on the hosts: its name, or its folder",
    ),
    "venv": Key(checked(folder), TEXT, "Folder of a virtual environment on the hosts"),
    "uv": Key(
        checked(inside),
        TEXT,
        "Path in the workdir from which each host builds its environment once: a folder with uv.lock "
        "or requirements.txt, or such a file",
    ),
    "wheels": Key(
        checked(wheels_folder),
        TEXT,
        "Folder of wheels, the only source of packages for uv: in the workdir, or a path on the hosts",
    ),
    "modules": Key(read_modules, TEXTS, "The same as modules: beside environment:"),
}
SCHEMA: Mapping[str, Any] = mapping_schema(_KEYS)


def read_environment(node: YamlNode) -> dict[str, Any]:
    """Return what ``environment:`` holds. Raises DocumentError."""
    found = read(node, _KEYS, "environment")
    named = [kind for kind in KINDS if kind in found]
    if len(named) > 1:
        raise node.error(
            f"environment: names {' and '.join(named)}, and a job has one", "leave one of them out"
        )
    if "wheels" in found and "uv" not in found:
        raise node.error(
            "environment: wheels are for uv alone", "environment: {uv: ., wheels: DIR}"
        )
    return found


def spread(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a layer, with a mapping of ``environment`` as what it stands for.

    Raises InputError where the layer names two Pythons, or modules twice.
    """
    found = dict(values)
    if isinstance(given := found.get("environment"), Mapping):
        del found["environment"]
        if "modules" in given and "modules" in found:
            raise InputError(
                "modules: stands in environment: and beside it", "write all of them in one place"
            )
        found |= {"modules": given["modules"]} if "modules" in given else {}
        named = {kind: place for kind, place in given.items() if kind != "modules"}
        if named:
            found["environment"] = _made(named)
    if _brings_python(found.get("environment")) and found.get("python"):
        raise InputError(
            f"{found['python']} and the {found['environment']} are two Pythons, and a job has one",
            "leave out python (--python) or the environment, which has its own",
        )
    return found


def _made(named: Mapping[str, Any]) -> Environment:
    if unknown := [kind for kind in named if kind not in FIELDS]:
        raise InputError(f"environment has no {unknown[0]}", f"{', '.join(FIELDS)} or modules")
    if len([kind for kind in named if kind in KINDS]) != 1:
        raise InputError(f"{' and '.join(named)}: a job has one environment", "name one of them")
    try:
        return Environment(**{kind: FIELDS[kind](str(place)) for kind, place in named.items()})
    except ValueError as error:
        raise InputError(f"environment: {error}") from None


def of_flags(given: Mapping[str, str], home: str) -> Environment:
    """Return the environment of ``--conda`` or ``--venv``. Raises InputError.

    A shell replaces ``~`` by the home of this machine, where the host's is meant.
    """
    home = home.rstrip("/")
    named = dict(given)
    for kind, place in given.items():
        if kind in ("conda", "venv") and home and place.startswith(f"{home}/"):
            named[kind] = f"~{place.removeprefix(home)}"
    kinds = [kind for kind in named if kind in KINDS]
    if len(kinds) > 1:
        flags = " and ".join(f"--{kind}" for kind in kinds)
        raise InputError(f"{flags} contradict each other", "a job has one environment")
    if "wheels" in named and "uv" not in named:
        raise InputError("--wheels is for --uv alone", "--uv . --wheels DIR")
    for kind, place in named.items():
        try:
            named[kind] = FIELDS[kind](place)
        except ValueError as error:
            raise InputError(f"--{kind}: {error}") from None
    return Environment(**named)


def _brings_python(environment: Environment | None) -> bool:
    return environment is not None and environment.python is not None


def replaced(name: str, value: Any, weaker: Mapping[str, Any]) -> str | None:
    """Return the name of what a value takes the place of among those of weaker layers, if any: a job has
    one Python, with which uv builds its environment."""
    if name == "python" and value and _brings_python(weaker.get("environment")):
        return "environment"
    if name == "environment" and _brings_python(value) and weaker.get("python"):
        return "python"
    return None


def with_python(hosts: Sequence[Host], job: Job) -> tuple[Host, ...]:
    """Return the hosts with the job's own Python, if it names one."""
    python = (job.environment and job.environment.python) or job.python
    return tuple(replace(host, python=python) for host in hosts) if python else tuple(hosts)
