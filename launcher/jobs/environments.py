"""The environment of a job, as its file, flags and settings name it: which Python its hosts use.

A job has one Python: ``python:``, or an environment that brings one. Of several places the stronger one
holds: a flag, a role, the job, the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from ..spec import containers
from ..spec.containers import Container
from ..spec.environments import Environment, conda_environment, folder, inside, wheels_folder
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.host_environment import NONE, read_modules, wrong_module
from ..spec.model import Host, Job, Layout, Node, Role
from ..spec.yaml_document import (
    TEXT,
    TEXT_MAP,
    TEXTS,
    Key,
    YamlNode,
    checked,
    read,
    text,
    text_map,
    texts,
)
from ..spec.yaml_document import schema as mapping_schema

#: What an environment may be, each with what makes its value.
KINDS = {
    "conda": conda_environment,
    "venv": folder,
    "uv": inside,
    "pixi": inside,
    "image": containers.image,
}
#: What else an environment may say, and of which kind.
_MORE = {
    "wheels": wheels_folder,
    "runtime": containers.runtime,
    "mounts": containers.mount,
    "build_args": containers.build_argument,
    "context": containers.build_context,
}
_OF_KIND = {
    "wheels": "uv",
    "runtime": "image",
    "mounts": "image",
    "build_args": "image",
    "context": "image",
}
#: Those that are lists, with the flags that name one of them.
_LISTS = {"mounts": "mount", "build_args": "build-arg"}
FIELDS = {**KINDS, **_MORE}


def _read_mounts(node: YamlNode) -> tuple[str, ...]:
    found = []
    for one in texts(node):
        try:
            found.append(containers.mount(one))
        except ValueError as error:
            raise node.error(str(error)) from None
    return tuple(found)


def _read_build_args(node: YamlNode) -> tuple[str, ...]:
    try:
        return tuple(containers.build_argument(f"{n}={v}") for n, v in text_map(node).items())
    except ValueError as error:
        raise node.error(str(error)) from None


_KEYS: Mapping[str, Key] = {
    "conda": Key(
        checked(conda_environment),
        TEXT,
        "Environment of conda, mamba, micromamba or pixi on the hosts: its name, or its folder; or a "
        "file in the workdir, as environment.yml, from which each host builds one once",
    ),
    "venv": Key(checked(folder), TEXT, "Folder of a virtual environment on the hosts"),
    "uv": Key(
        checked(inside),
        TEXT,
        "Path in the workdir from which each host builds its environment once: a folder with uv.lock "
        "or requirements.txt, or such a file",
    ),
    "pixi": Key(
        checked(inside),
        TEXT,
        "Folder in the workdir with pixi.lock and its pixi.toml or pyproject.toml, from which each host "
        "builds the default environment once",
    ),
    "wheels": Key(
        checked(wheels_folder),
        TEXT,
        "The only source of packages for uv: a folder of wheels in the workdir, or a path on the hosts; "
        "or fetch: this machine fetches what they need once, and gives it to them",
    ),
    "image": Key(
        checked(containers.image),
        TEXT,
        "Container image: its name, or the path of a Dockerfile or its folder, a tar, an OCI folder, a "
        ".sif or a root folder",
    ),
    "build_args": Key(
        _read_build_args,
        TEXT_MAP,
        "Arguments for ARG in the Dockerfile. They stay readable in the image: no secrets",
    ),
    "context": Key(
        checked(containers.build_context),
        TEXT,
        "Folder of this machine whose files the Dockerfile may copy (default: its own)",
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


def read_environment(node: YamlNode, keys: Mapping[str, Key] = _KEYS) -> dict[str, Any]:
    """Return what ``environment:`` holds. Raises DocumentError."""
    found = read(node, keys, "environment")
    named = [kind for kind in KINDS if kind in found]
    if len(named) > 1:
        raise node.error(
            f"environment: names {' and '.join(named)}, and a job has one", "leave one of them out"
        )
    for name, kind in _OF_KIND.items():
        if name in found and kind not in found:
            verb = "is" if name in ("runtime", "context") else "are"
            raise node.error(
                f"environment: {name} {verb} for {kind} alone",
                f"environment: {{{kind}: ..., {name}: ...}}",
            )
    if "image" in found and "modules" in found:
        raise node.error(*_no_modules("environment", "an image"))
    return found


_ROLE_KEYS: Mapping[str, Key] = {
    **_KEYS,
    "modules": Key(read_modules, TEXTS, "Environment modules, instead of the job's"),
}
ROLE_SCHEMA: Mapping[str, Any] = {"oneOf": [mapping_schema(_ROLE_KEYS), {"const": NONE}]}


def read_role_environment(node: YamlNode) -> dict[str, Any]:
    """Return the fields of a role that its ``environment:`` stands for. Raises DocumentError."""
    if isinstance(node.yaml, yaml.ScalarNode):
        if text(node) != NONE:
            raise node.error(
                f"environment is {text(node)!r}", f"{{image: NAME}}, {{conda: NAME}}, or {NONE}"
            )
        return {"environment": Environment(), "modules": ()}
    found = read_environment(node, _ROLE_KEYS)
    modules = found.pop("modules", ())
    return {"environment": _made(found) if found else None, "modules": modules}


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
    if kind in _LISTS:
        several = [given] if isinstance(given, str) else given
        if isinstance(given, Mapping):
            several = [f"{name}={value}" for name, value in given.items()]
        return tuple(FIELDS[kind](str(one)) for one in several)
    return FIELDS[kind](str(given))


def of_flags(given: Mapping[str, Any], home: str) -> Environment | None:
    """Return the environment of ``--conda``, ``--venv``, ``--uv``, ``--pixi`` or ``--image``; None for
    an image called ``none``. Raises InputError.

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
            flag = _LISTS.get(name, name)
            raise InputError(f"--{flag} is for --{kind} alone", f"--{kind} ... --{flag} ...")
    if named.get("image") == NONE:  # what the hosts have, for a job file that names an image
        return None
    for kind, place in named.items():
        try:
            named[kind] = _value(kind, place)
        except ValueError as error:
            flag = _LISTS.get(kind, kind)
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


# -- of roles and hosts


def of_stronger(
    roles: Sequence[Role],
    environment: Environment | None,
    sources: Mapping[str, str],
    layers: Sequence[str],
) -> tuple[Role, ...]:
    """Return the roles of a job without what a stronger layer than theirs says for all of it."""

    def is_stronger(name: str) -> bool:
        places = [sources.get(one, "") for one in (name, "roles")]
        mine, theirs = (layers.index(one) if one in layers else -1 for one in places)
        return mine > theirs

    gone: dict[str, Any] = {}
    if is_stronger("environment") or is_stronger("python"):
        gone["environment"] = None
    if is_stronger("modules") or (gone and environment and environment.image):
        gone["modules"] = ()
    return tuple(replace(role, **gone) for role in roles)


def check_modules(
    environment: Environment | None,
    modules: Sequence[str],
    sources: Mapping[str, str],
    layers: Sequence[str],
) -> tuple[str, ...]:
    """Return the modules of a job: without those of a weaker layer than its image, which takes their
    place. Raises InputError for modules beside an image, and for what is none."""
    if wrong := wrong_module(modules):
        raise InputError(*wrong)
    if not (modules and environment and environment.image):
        return tuple(modules)
    if layers.index(sources["environment"]) > layers.index(sources["modules"]):
        return ()
    raise InputError(*_no_modules("modules", str(environment)))


def _no_modules(where: str, image: str) -> tuple[str, str]:
    """Return what to say of modules in an image, and the hint."""
    return (
        f"{where}: {image} loads no modules of the host",
        "leave modules out; prepare: may load those that are in the image",
    )


def check_roles(environment: Environment | None, roles: Sequence[Role]) -> None:
    """Raise InputError for roles that load modules in the image of their job."""
    own = [role.name for role in roles if role.modules and not role.environment]
    if own and environment and environment.image:
        raise InputError(
            f"roles: {own[0]}: modules: {environment} of the job loads no modules of the host",
            f"leave them out, or name what {own[0]} runs in besides: {{conda: NAME, modules: [...]}}",
        )


@frozen
class Around:
    """What is around the processes of a role on a host; without a ``python``, it was not found there."""

    environment: Environment | None
    modules: tuple[str, ...]
    python: str

    @property
    def is_activated(self) -> bool:
        """Whether bash activates something in front of each process."""
        return bool(self.modules or (self.environment and self.environment.is_activated))


def on_host(job: Job, host: Host, role: str = "") -> Environment | None:
    """Return the environment of a role on a host: the role's own, else the job's, else the host's.

    A conda environment that is named is the host's own, if that is called so.
    """
    wanted = (job.role(role).environment if role else None) or job.environment
    there = host.environment
    if wanted is None or wanted.is_none:
        return None if job.python else there
    return there if there and wanted.is_named and there.is_called(wanted.conda) else wanted


def modules_on(job: Job, host: Host, role: str = "") -> tuple[str, ...]:
    """Return the modules that are loaded for a role on a host: its own, else the job's, else the
    host's; none in an image."""
    own = job.role(role) if role else None
    wanted = (own.environment if own else None) or job.environment
    if wanted and wanted.image:
        return ()
    return (own.modules if own else ()) or job.modules or host.modules


def around(job: Job, node: Node, role: str = "") -> Around:
    """Return what is around the processes of a role on a node."""
    environment, modules = on_host(job, node.host, role), modules_on(job, node.host, role)
    python = node.python
    if environment and environment.image:
        inside = node.containers.get(environment.key)
        python = (inside.python if inside else "") or "python3"
    elif job.has_several_environments and environment:
        python = node.pythons.get(environment.key) or environment.python or python
    return Around(environment, modules, python)


def is_in_image(job: Job, host: Host, role: str = "") -> bool:
    """Return whether the processes of a role run in an image on a host."""
    environment = on_host(job, host, role)
    return bool(environment and environment.image)


def container_of(job: Job, node: Node, role: str = "") -> Container | None:
    """Return the image in which the processes of a role run on a node; None for none."""
    environment = on_host(job, node.host, role)
    return node.containers.get(environment.key) if environment else None


def visited_role(node: Node) -> str:
    """Return the role in whose environment visitors of a node are: that of its first process."""
    return node.tasks[0].role if node.tasks else ""


def roles_apart(job: Job, node: Node) -> dict[Around, str]:
    """Return what is around the processes of a node, each with the first role that has it."""
    roles = dict.fromkeys(task.role for task in node.tasks) if job.roles else {"": None}
    found: dict[Around, str] = {}
    for role in roles or {"": None}:
        found.setdefault(around(job, node, role), role)
    return found


def needed_on(job: Job, host: Host) -> dict[Environment, list[str]]:
    """Return the environments that processes of a job may need on a host, each with its roles, ""
    among them for the job's own. Only of a job that has several."""
    names = [role.name for role in job.roles] if job.has_several_environments else []
    found: dict[Environment, list[str]] = {}
    for role in ("", *names) if job.setup else names:
        if environment := on_host(job, host, role):
            found.setdefault(environment, []).append(role)
    return found


def unable(job: Job, host: Host, pythons: Mapping[str, str]) -> frozenset[str]:
    """Return the roles whose environment a host lacks, which was looked for."""
    lacking = {
        role
        for environment, roles in needed_on(job, host).items()
        if environment.python and environment.key not in pythons
        for role in roles
    }
    return frozenset(role.name for role in job.roles) if "" in lacking else frozenset(lacking)


def all_of(job: Job) -> tuple[Environment, ...]:
    """Return the environments that a job and its roles name."""
    named = (job.environment, *(role.environment for role in job.roles))
    return tuple(dict.fromkeys(one for one in named if one and not one.is_none))


def images_of(job: Job) -> tuple[Environment, ...]:
    """Return those of a job and its roles that are images."""
    return tuple(one for one in all_of(job) if one.image)


@frozen
class UsedImage:
    """An image in which a run, or only ``roles`` of it, are; ``ids`` by host, "" for one without."""

    image: str
    roles: tuple[str, ...]
    ids: Mapping[str, str]


def used_images(job: Job, layout: Layout) -> list[UsedImage]:
    """Return the images in which a run is, as its hosts have them."""
    found = []
    for wanted in images_of(job):
        there = {
            node.host.name: node.containers[wanted.key].id
            for node in layout.nodes
            if wanted.key in node.containers
        }
        if there:
            roles = roles_with(job, wanted) if job.has_several_environments else ()
            found.append(UsedImage(wanted.image, roles, there))
    return found


def replaced_in(job: Job, new: Callable[[Environment], Environment]) -> Job:
    """Return a job with another environment in the place of each that it and its roles name. An
    InputError about that of a role names it."""
    own, roles = new(job.environment) if job.environment else None, []
    for role in job.roles:
        try:
            its = new(role.environment) if role.environment else None
        except InputError as error:
            raise InputError(f"roles: {role.name}: {error.message}", error.hint) from None
        roles.append(replace(role, environment=its))
    return replace(job, environment=own, roles=tuple(roles))


def roles_with(job: Job, wanted: Environment) -> tuple[str, ...]:
    """Return the roles whose processes run in an environment that a job or some of its roles name."""
    return tuple(role.name for role in job.roles if (role.environment or job.environment) == wanted)


def is_needed(job: Job, layout: Layout, host: str, wanted: Environment) -> bool:
    """Return whether a host needs an environment of a job. Of a layout without nodes it is not known yet
    which roles a host has, but for those that name their host."""
    if not job.has_several_environments:
        return True
    nodes = [node for node in layout.nodes if node.host.name == host]
    there = {task.role for node in nodes for task in node.tasks}
    if not layout.nodes:
        there = {role.name for role in job.roles if role.host in (None, host)}
    elif not nodes:
        return False
    return bool(there.intersection(roles_with(job, wanted))) or (
        wanted == job.environment and bool(job.setup)
    )


def uses_gpus(job: Job, wanted: Environment) -> bool:
    """Return whether processes in an environment of a job may use GPUs."""
    if not job.roles:
        return job.resources.gpus != 0
    own = [job.role(name) for name in roles_with(job, wanted)]
    parts = [part for role in own for part in (role, *(role.at(n) for n in role.overrides))]
    return any(part.resources.gpus for part in parts)


def programs_folder(job: Job, wanted: Environment) -> str:
    """Return where ``python`` of an image is, below what comes first in PATH; "" for that itself."""
    if not job.has_several_environments:
        return ""
    return f"image-{images_of(job).index(wanted)}"


def with_python(hosts: Sequence[Host], job: Job | None) -> tuple[Host, ...]:
    """Return the hosts with the Python that launcher's agent has there: the job's, or that of the
    environment in which all processes run."""
    return tuple(_with_python(host, job or Job(run=())) for host in hosts)


def _with_python(host: Host, job: Job) -> Host:
    python = job.python
    if not job.has_several_environments and (environment := on_host(job, host)):
        python = environment.python or python
    return replace(host, python=python) if python else host
