"""Read a job: what to run, where its code is, and how much of the hosts it wants.

Keys are named as in SkyPilot and dstack, and flags as keys. Defaults < file < environment < flags.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import yaml

from .. import frameworks
from ..frameworks import Framework
from ..spec import credentials
from ..spec import data as data_values
from ..spec.data import DataSet
from ..spec.environments import python_path
from ..spec.errors import DocumentError, InputError, suggestion
from ..spec.gpu_models import count_text, read_count
from ..spec.gpus import COMPUTED, read_ids
from ..spec.host_environment import read_modules
from ..spec.inventory import MODEL_COUNT, VARIABLE, gpu_count, gpu_ids, variables
from ..spec.model import Job, Resources, Role, Secret
from ..spec.yaml_document import (
    SCALAR,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Key,
    YamlNode,
    checked,
    parse,
    read,
    text,
    texts,
    truth,
    whole,
    whole_number,
)
from ..spec.yaml_document import schema as mapping_schema
from . import (
    command,
    data,
    environments,
    foreign_terms,
    outputs,
    placeholders,
    preload,
    roles,
    shares,
    taken_over,
)
from .durations import seconds
from .run_options import OPTIONS, SETTINGS

#: The layer of a job whose values come from a program.
PROGRAM = "argument"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}\Z")
_UNKNOWN_IN_RESOURCES = re.compile(r'unknown key "(\w+)" in resources')


def port_range(value: str) -> tuple[int, int]:
    """Return ``29500`` or ``29500-29600`` as the first and the last port. Raises ValueError."""
    first, dash, last = value.partition("-")
    try:
        ports = (int(first), int(last if dash else first))
    except ValueError:
        raise ValueError(f"not a port or a range of ports: {value!r} (29500-29600)") from None
    if not 1 <= ports[0] <= ports[1] <= 65535:
        raise ValueError(f"not a range of ports: {value!r} (1 to 65535)")
    return ports


def address(value: str) -> str:
    """Return an address or a name, without the brackets that IPv6 has in front of a port."""
    return value[1:-1] if value.startswith("[") and value.endswith("]") else value


def nodes(value: str) -> int | str:
    """Return ``2``, or ``1:2`` for torchrun's elastic mode. Raises ValueError."""
    least, colon, most = value.partition(":")
    wrong = ValueError(f"not a number of hosts: {value!r} (2, or 1:2 for at least 1)")
    if not all(part.isascii() and part.isdigit() for part in (least, most or "1")):
        raise wrong
    if not 1 <= int(least) <= int(most or least) or (colon and not most):
        raise wrong
    return value if colon else int(least)


def job_name(value: str) -> str:
    """Return a name that can be part of a folder's name. Raises ValueError."""
    if not _NAME.match(value):
        raise ValueError(f"{value!r} cannot be a name: use letters, digits, '.', '_' and '-'")
    return value


_RESOURCES: Mapping[str, Key] = {
    "gpus": Key(
        gpu_count(0),
        {"oneOf": [whole(0), MODEL_COUNT]},
        "Total GPUs over all hosts, one process for each; also of one model: A100:4",
    ),
    "nproc_per_node": Key(whole_number(1), whole(1), "Processes on each host"),
    "gpu_ids": Key(
        gpu_ids, TEXTS, "Which GPUs of each host: indices, UUIDs, or 1:0 for a MIG instance"
    ),
}


def _resources(node: YamlNode) -> Resources:
    return Resources(**_with_model(read(node, _RESOURCES, "resources")))


def _with_model(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of resources with a model of GPUs on its own. Raises ValueError."""
    if isinstance(values.get("gpus"), str):
        values["gpu_model"], values["gpus"] = read_count(values["gpus"])
    return values


def _host_terms(node: YamlNode) -> str:
    return ",".join(texts(node))


def _secrets(node: YamlNode) -> dict[str, str | None]:
    """Return names with values; None means that the value comes from the environment."""
    for name, key_node in _variables(node):
        if not VARIABLE.match(name):
            raise key_node.error(f'"{name}" cannot be the name of an environment variable')
    if isinstance(node.yaml, yaml.MappingNode):
        items = node.items()
        return {name: None if value.is_empty() else text(value) for name, _, value in items}
    return dict.fromkeys(texts(node))


def _share(node: YamlNode) -> tuple[str, ...]:
    try:
        return shares.folders(texts(node))
    except ValueError as error:
        raise node.error(str(error), "such as checkpoints/, or '{{outputs}}/checkpoints'") from None


def _needs(node: YamlNode) -> tuple[str, ...]:
    paths = texts(node)
    for path in paths:
        if not path.startswith(("/", "~")):
            raise node.error(
                f"{path!r} is not an absolute path", "such as /data/imagenet or ~/data"
            )
    return paths


KEYS: Mapping[str, Key] = {
    "name": Key(checked(job_name), TEXT, "Start of the run's name (default: generated)"),
    "workdir": Key(text, TEXT, "Folder to copy, relative to this file (default: this folder)"),
    "num_nodes": Key(
        checked(nodes),
        {"oneOf": [whole(1), {"type": "string", "pattern": r"^\d+(:\d+)?$"}]},
        'Number of hosts; with "1:2" torchrun continues on 1 host when the other is lost',
    ),
    "hosts": Key(_host_terms, TEXTS, "Hosts to use: names, nodesets, groups or labels"),
    "resources": Key(_resources, mapping_schema(_RESOURCES), "GPUs or processes"),
    "envs": Key(variables, TEXT_MAP, "Environment variables of every process"),
    "secrets": Key(
        _secrets,
        {"oneOf": [*TEXTS["oneOf"], {"type": "object", "additionalProperties": {}}]},
        "Variables kept out of logs, ps and records; without a value: taken from your environment",
    ),
    "python": Key(
        checked(python_path),
        TEXT,
        "Python of this job on every host: a path, a name on PATH, venv:DIR or conda:NAME",
    ),
    "environment": Key(
        environments.read_environment,
        environments.SCHEMA,
        "Environment in which everything runs on the hosts: {conda: NAME} or {venv: DIR}",
    ),
    "modules": Key(
        read_modules,
        TEXTS,
        "Environment modules to load before each process: [cuda/12.4, nccl]",
    ),
    "prepare": Key(
        text, TEXT, "Lines of bash to run before each process: module load, conda activate"
    ),
    "preload": Key(
        preload.read_preload,
        TEXTS,
        "Modules that each host imports once, ahead of its ranks: [torch, transformers]",
    ),
    "keep_warm": Key(
        checked(preload.keep_time),
        SCALAR,
        "How long the next run may use what was imported, as 10m; a day at most",
    ),
    "setup": Key(text, TEXT, "Shell script to run once on every host before the start"),
    "run": Key(command.read, TEXTS, "What to run: script and arguments; for `env`: a shell script"),
    "include": Key(
        texts,
        TEXTS,
        "Paths of the workdir to copy although .gitignore, .launcherignore or outputs leaves them out",
    ),
    "share": Key(
        _share,
        TEXTS,
        "Folders of the workdir: what one host writes there appears on all hosts of the run",
    ),
    "outputs": Key(
        outputs.read_outputs,
        outputs.SCHEMA,
        "Paths of the workdir to bring back, besides LAUNCHER_OUTPUT_DIR; `auto`: small files anywhere",
    ),
    "output_to": Key(
        checked(data_values.target),
        TEXT,
        "Store that gets all outputs at the end, s3://bucket/path, gs:// or az://; {{run}} in it is the "
        "run's name",
    ),
    "output_credential": Key(
        credentials.read_name,
        TEXT,
        "Name of the credential for this store, as `launcher credential` keeps it",
    ),
    "output_unattended": Key(
        truth,
        {"type": "boolean"},
        "Whether hosts store outputs when no launcher is in touch at the end (default: true)",
    ),
    "checkpoints": Key(
        outputs.read_checkpoints,
        outputs.CHECKPOINTS_SCHEMA,
        "Outputs that are kept every so often, all files of one moment or none: {path, every}",
    ),
    "bring": Key(texts, TEXTS, "Patterns of the outputs to bring back (default: all)"),
    "keep_on_host": Key(
        texts, TEXTS, "Patterns of the outputs that stay on the hosts, such as '*.pt'"
    ),
    "needs": Key(
        _needs,
        TEXTS,
        "Paths that every host must have, such as a dataset; hosts without are not used",
    ),
    "data": Key(
        data.read_sets,
        data.SCHEMA,
        "Data sets that every host has before the start, by name: {from: SOURCE, to: PATH}",
    ),
    "framework": Key(text, TEXT, f"How processes are started: {', '.join(frameworks.BUILTIN)}"),
    "roles": Key(roles.read_roles, roles.SCHEMA, "Kinds of processes, by name"),
    "master_addr": Key(
        checked(address), TEXT, "Address of the first host (default: one that all hosts reach)"
    ),
    "master_port": Key(checked(port_range), SCALAR, "Port, or range of ports to choose from"),
    "grace": Key(checked(seconds), SCALAR, "Time between SIGTERM and SIGKILL (default: 10s)"),
    "max_restarts": Key(
        whole_number(0), whole(0), "Restarts at most, after a failure or a lost host"
    ),
    "min_nodes": Key(
        whole_number(1), whole(1), "Continue with as few hosts as this when no spare is left"
    ),
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a job file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "launcher job",
        **mapping_schema({**KEYS, **OPTIONS}),
        "anyOf": [{"required": ["run"]}, {"required": ["roles"]}],
    }


def load(content: str, source: str) -> dict[str, Any]:
    """Return the values of the job in a file, without options of its run. Raises DocumentError."""
    return load_root(parse(content, source), source)


def load_root(root: YamlNode, source: str) -> dict[str, Any]:
    """Return the values of a job from the root of its document. Raises DocumentError."""
    try:
        found = read(root, {**KEYS, **OPTIONS}, "the job")
    except DocumentError as error:
        raise _foreign(root, source, error) from None
    values = {name: value for name, value in found.items() if name in KEYS}
    nodes = {name: value for name, _, value in root.items()}
    if "run" not in values and not all(role.run for role in values.get("roles", (Role(""),))):
        raise root.error('the job has no "run"', "run: train.py --epochs 3")
    try:
        framework = frameworks.get(_framework(values))
    except InputError as error:
        raise nodes["framework"].error(error.message, error.hint) from None
    if "roles" in values or "framework" in values:
        reported_at = nodes.get("roles", nodes.get("framework", root))
        _check_roles(values.get("roles", ()), reported_at, framework)
    if not framework.shell and len(values.get("run", ())) == 1:
        try:
            shlex.split(values["run"][0], comments=True)
        except ValueError as error:
            raise nodes["run"].error(f"{error} in {values['run'][0]!r}") from None
    _check_environment(values, nodes)
    for name in ("envs", "secrets"):
        for variable, key_node in _variables(nodes[name]) if name in nodes else ():
            if variable in framework.computed | COMPUTED:
                raise key_node.error(
                    f"{variable} is computed for every process",
                    _instead(variable, f"leave it out of {name}"),
                )
    return values


def _check_environment(values: Mapping[str, Any], nodes: Mapping[str, YamlNode]) -> None:
    """Raise DocumentError for a file that names two Pythons, or modules twice."""
    try:
        given = environments.spread(values)
    except InputError as error:
        raise nodes["environment"].error(error.message, error.hint) from None
    layer = dict.fromkeys(("environment", "modules"), "file")
    try:
        environments.check_modules(
            given.get("environment"), given.get("modules", ()), layer, ("file",)
        )
    except InputError as error:
        raise nodes["modules"].error(error.message, error.hint) from None
    for role in given.get("roles", ()):
        try:
            environments.check_roles(given.get("environment"), [role])
        except InputError as error:
            places = {name: value for name, _, value in nodes["roles"].items()}
            keys = {name: key for name, key, _ in places[role.name].items()}
            raise keys["environment"].error(error.message, error.hint) from None


def _foreign(root: YamlNode, source: str, error: DocumentError) -> DocumentError:
    """Return the error, with a better hint if the file is a task of another system."""
    keys = {} if not isinstance(root.yaml, yaml.MappingNode) else dict(root.yaml.value)
    names = {str(key.value): value for key, value in keys.items()}
    inside = names["run"].value if isinstance(names.get("run"), yaml.MappingNode) else []
    if "matrix" in names:
        hint = f"matrix: makes it a sweep: launcher sweep {source}"
        return DocumentError(error.message, hint, error.source, error.line)
    if "run" not in names and isinstance(names.get("hosts"), yaml.MappingNode):
        hint = f"this is an inventory: launcher run -i {source} SCRIPT"
        return DocumentError(error.message, hint, error.source, error.line)
    environment = names.get("environment")
    words = environment.value if isinstance(environment, yaml.MappingNode) else []
    if any(key.value in environments.FIELDS for key, _ in words):
        names.pop("environment")  # it is our own
    form = foreign_terms.importer(names, any(key.value == "kind" for key, _ in inside))
    unknown = None if form else _UNKNOWN_IN_RESOURCES.match(error.message)
    if unknown and unknown[1] in foreign_terms.KEYS:
        hint = foreign_terms.KEYS[unknown[1]]
        return DocumentError(error.message, hint, error.source, error.line)
    for name in names:
        if name in foreign_terms.KEYS and error.message.startswith(
            f'unknown key "{name}" in the job'
        ):
            hint = foreign_terms.KEYS[name]
            return DocumentError(error.message, hint, error.source, error.line)
    if not form:
        return error
    hint = f"is it a task of another system? launcher import {form} {source} -o job.yaml"
    return DocumentError(error.message, hint, error.source, error.line)


def _check_roles(given: tuple[Role, ...], node: YamlNode, framework: Framework) -> None:
    """Raise DocumentError at the role that the framework cannot take."""
    key_nodes = {"": node}
    if given:
        key_nodes |= {name: key_node for name, key_node, _ in node.items()}
    for name, (message, hint) in roles.check(given, framework).items():
        raise key_nodes[name].error(message, hint)


def _variables(node: YamlNode) -> list[tuple[str, YamlNode]]:
    if isinstance(node.yaml, yaml.MappingNode):
        return [(name, key_node) for name, key_node, _ in node.items()]
    elements = node.elements() if isinstance(node.yaml, yaml.SequenceNode) else [node]
    return [(text(element), element) for element in elements]


def make(layers: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]) -> Job:
    """Make a job from layers of values, lowest first: ``{"file": {...}, "flag": {...}}``.

    ``envs`` and ``secrets`` of several layers are merged; secrets without a value come from
    ``environment``. Raises InputError.
    """
    values: dict[str, Any] = {}
    layers = {layer: environments.spread(outputs.spread(given)) for layer, given in layers.items()}
    sets: tuple[DataSet, ...] = ()
    sources = {field.name: "default" for field in fields(Job) if field.name != "sources"}
    for layer, given in layers.items():
        for name, value in given.items():
            if name not in sources:
                raise InputError(f'a job has no "{name}"', suggestion(name, tuple(sources)))
            value = _converted(layer, name, value)
            merged = name in ("envs", "secrets") and name in values
            values[name] = {**values[name], **value} if merged else value
            if other := environments.replaced(name, value, values):
                del values[other]
                sources[other] = "default"
            if name == "data":
                sets = data.merged(sets, value)
            sources[name] = layer
    values["data"] = sets
    is_usual = sources["framework"] in SETTINGS
    taken = taken_over.values_of(values, _framework(values), environment, is_usual)
    sources |= dict.fromkeys(taken, "command")
    values |= taken
    framework = frameworks.get(_framework(values))
    values["framework"] = framework.name
    _check_envs(values.get("envs", {}), framework, sources["envs"] == "flag")
    if isinstance(values.get("num_nodes"), str):
        least, most = values["num_nodes"].split(":")
        values["elastic"], values["num_nodes"] = int(least), int(most)
        if framework.name != "torchrun":
            raise InputError(
                f"--nodes {least}:{most}: only torchrun is elastic", "use --framework torchrun"
            )
    named = values.get("environment")
    kept = environments.of_stronger(values.get("roles", ()), named, sources, tuple(layers))
    values["roles"] = kept
    layered = (values.get("modules", ()), sources, tuple(layers))
    values["modules"] = environments.check_modules(named, *layered)
    environments.check_roles(named, kept)
    preload.check(values.get("preload", ()), framework, named, kept)
    preload.check_kept(values.get("preload", ()), values.get("keep_warm"))
    _check_gpus(values.get("resources", Resources()))
    outputs.check(values.get("outputs", ()))
    credential = values.get("output_credential", "")
    outputs.check_credential(credential, values.get("output_to", ""), sources["output_credential"])
    if not values.get("output_to") or credential == credentials.NONE:
        values["output_credential"] = ""
    values["secrets"] = _reveal(values.get("secrets", {}), environment)
    given_roles = values["roles"] = roles.made(values.get("roles", ()), framework)
    if given_roles and values.get("resources", Resources()) != Resources():
        raise InputError(
            "resources: and roles: cannot be combined",
            "set replicas: and resources: of each role, and leave out --gpus and --nproc-per-node",
        )
    run = values.get("run") or next((role.run for role in given_roles if role.run), ())
    values["run"], values["shell"] = command.split(run, framework)
    foreign_terms.check_command(values["run"], framework.name)
    return Job(**values, sources=sources)


def _check_envs(envs: Mapping[str, str], framework: Framework, by_flag: bool) -> None:
    """Raise InputError for a variable that is computed, or that holds an unknown placeholder."""
    flag = "--env" if by_flag else "envs:"
    for name, value in envs.items():
        if name in framework.computed | COMPUTED:
            raise InputError(
                f"{flag} {name}: it is computed for every process", _instead(name, "leave it out")
            )
        if found := placeholders.problem(str(value)):
            raise InputError(f"{flag} {name}: {found[0]}", found[1])


def _check_gpus(wanted: Resources) -> None:
    if wanted.gpus is not None and wanted.gpu_ids:
        count, ids = count_text(wanted.gpu_model, wanted.gpus), ",".join(wanted.gpu_ids)
        raise InputError(
            f"--gpus {count} and --gpu-ids {ids} cannot be combined",
            "--gpus is how many, on any hosts; --gpu-ids is which, on each host",
        )


def _framework(values: Mapping[str, Any]) -> str:
    """Return the framework's name; torchrun takes no roles, so a job with roles gets torch."""
    return str(values.get("framework", "torch" if values.get("roles") else Job.framework))


def _instead(variable: str, usual: str) -> str:
    """Return what to do instead of setting a variable that is computed."""
    return "choose GPUs with --gpu-ids (gpu_ids: in a job)" if variable in COMPUTED else usual


def _converted(layer: str, name: str, value: Any) -> Any:
    """Convert a value to the job's type. Raises InputError."""
    found = _from_text(layer, name, value)
    if layer != PROGRAM:
        return found
    from . import program_values  # the command line needs none

    return program_values.read(name, found)


def _from_text(layer: str, name: str, value: Any) -> Any:
    """Convert what stands for a value, such as text with a unit. Raises InputError."""
    try:
        if name == "resources" and isinstance(value, Mapping):
            return _resources_of(value)
        if name == "roles" and isinstance(value, Mapping):
            return roles.read_roles(parse(yaml.safe_dump(dict(value)), "roles"))
        if name == "checkpoints" and isinstance(value, Mapping):
            return outputs.read_checkpoints(parse(yaml.safe_dump(dict(value)), "checkpoints"))
        if name == "data" and isinstance(value, Mapping | str):
            return data.read_sets(parse(yaml.safe_dump(value), "data"))
        if name == "preload":
            return preload.names([value] if isinstance(value, str) else value)
        if name == "output_credential":  # with its place, if a file says it
            return value if isinstance(value, credentials.Said) else credentials.name(str(value))
        if name in _FROM_TEXT and isinstance(value, str | int):
            return _FROM_TEXT[name](str(value))
    except (TypeError, ValueError) as error:
        flag = "--nodes" if name == "num_nodes" else "--" + name.replace("_", "-")
        called = flag if layer == "flag" else name
        raise InputError(f"{called}: {error}") from None
    return value


def _resources_of(wanted: Mapping[str, Any]) -> Resources:
    """Return the resources that a program passes; ``gpu_ids`` may be a list. Raises ValueError."""
    values = _with_model(dict(wanted))
    if values.get("gpu_ids"):
        several = values["gpu_ids"]
        texts = [several] if isinstance(several, str | int) else several
        values["gpu_ids"] = read_ids(",".join(map(str, texts)))
    from . import program_values

    return program_values.resources(values)


_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "name": job_name,
    "num_nodes": nodes,
    "python": python_path,
    "master_addr": address,
    "master_port": port_range,
    "grace": seconds,
    "keep_warm": preload.keep_time,
    "output_to": data_values.target,
}


def _reveal(secrets: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, Secret]:
    found = {}
    for name, value in secrets.items():
        if value is None and name not in environment:
            raise InputError(
                f"secret {name} is not set in your environment",
                f"export {name}=... before `launcher run`",
            )
        found[name] = Secret(environment[name] if value is None else value)
    return found
