"""The environment of a job, as its file, flags and settings name it: which Python its hosts use.

A job has one Python: ``python:``, or an environment that brings one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..spec import containers
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
KINDS = {"conda": conda_environment, "venv": folder, "uv": inside, "image": containers.image}
#: What else an environment may say, and of which kind.
_MORE = {"wheels": wheels_folder, "runtime": containers.runtime, "mounts": containers.mount}
_OF_KIND = {"wheels": "uv", "runtime": "image", "mounts": "image"}
FIELDS = {**KINDS, **_MORE}


def _read_mounts(node: YamlNode) -> tuple[str, ...]:
    found = []
    for text in texts(node):
        try:
            found.append(containers.mount(text))
        except ValueError as error:
            raise node.error(str(error)) from None
    return tuple(found)


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
    "image": Key(
        checked(containers.image),
        TEXT,
        "Container image: its name, or the path of a tar, an OCI folder, a .sif or a root folder",
    ),
    "runtime": Key(
        checked(containers.runtime),
        {"enum": list(containers.RUNTIMES)},
        "What starts containers (default: what the host has, podman before docker)",
    ),
    "mounts": Key(
        _read_mounts, TEXTS, "Paths of the hosts that containers see: /data, or /srv/sets:/sets:ro"
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
    for name, kind in _OF_KIND.items():
        if name in found and kind not in found:
            verb = "is" if name == "runtime" else "are"
            raise node.error(
                f"environment: {name} {verb} for {kind} alone",
                f"environment: {{{kind}: ..., {name}: ...}}",
            )
    if "image" in found and "modules" in found:
        raise node.error("environment: an image loads no modules of the host", "leave modules out")
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
        return Environment(**{kind: _value(kind, place) for kind, place in named.items()})
    except ValueError as error:
        raise InputError(f"environment: {error}") from None


def _value(kind: str, given: Any) -> Any:
    """Return the value of a field. Raises ValueError."""
    if kind == "mounts":
        several = [given] if isinstance(given, str) else given
        return tuple(containers.mount(str(one)) for one in several)
    return FIELDS[kind](str(given))


#: As an image, that a job file names, it stands for what the hosts have.
NO_IMAGE = "none"


def of_flags(given: Mapping[str, Any], home: str) -> Environment | None:
    """Return the environment of ``--conda``, ``--venv``, ``--uv`` or ``--image``; None for an image
    called ``none``. Raises InputError.

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
    for name, kind in _OF_KIND.items():
        if name in named and kind not in named:
            flag = {"mounts": "mount"}.get(name, name)
            raise InputError(f"--{flag} is for --{kind} alone", f"--{kind} ... --{flag} ...")
    if named.get("image") == NO_IMAGE:
        return None
    for kind, place in named.items():
        try:
            named[kind] = _value(kind, place)
        except ValueError as error:
            flag = {"mounts": "mount"}.get(kind, kind)
            raise InputError(f"--{flag}: {error}") from None
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
