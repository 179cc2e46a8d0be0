"""Read Polyaxon experiments of version 0.x, whose environment has a topology for each framework.

Source: Polyaxon 0.x, "Distributed Experiments".
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...spec.yaml_document import YamlNode, text, texts
from ..source import Text, entries, unread
from . import polyaxon_run
from .draft import JobDraft
from .resources import share
from .templates import Values, filled

#: By section: our framework, and our roles for the master, the workers and the servers.
_TOPOLOGIES = {
    "tensorflow": ("tensorflow", "chief", "worker", "ps"),
    "mxnet": ("mxnet", "scheduler", "worker", "server"),
    "pytorch": ("torch", "master", "worker", ""),
}
#: Sections whose processes are all alike; our frameworks have the same names.
_ALIKE = ("horovod", "mpi")
_KNOWN = ("version", "kind", "name", "environment", "run", "declarations", "params")
_MIB = "MiB"  # the unit of a plain number for memory


def read(content: Text, draft: JobDraft) -> None:
    """Read an experiment or an operation. Raises DocumentError."""
    root = content.yaml()
    given = entries(root, "an experiment")
    if polyaxon_run.is_operation(given):
        polyaxon_run.read(root, draft)
        return
    unread(draft, root, _KNOWN, "the experiment")
    if "kind" in given and text(given["kind"][1]) != "experiment":
        raise root.error("only kind: experiment and operations with run: can be imported")
    if "name" in given:
        draft.name(text(given["name"][1]), given["name"][0])
    if "environment" in given:
        _environment(draft, given["environment"][1])
    values = Values()
    for key in ("declarations", "params"):
        if key in given:
            values.add(draft, given[key][1], key)
    _command(draft, given, values)
    values.note_unused(draft)


def _command(
    draft: JobDraft, given: dict[str, tuple[int, YamlNode]], values: dict[str, str]
) -> None:
    if "run" not in given:
        draft.values["run"] = "train.py"
        draft.note(0, "the file names no command: replace train.py by yours")
        return
    line, node = given["run"]
    if isinstance(node.yaml, yaml.MappingNode):
        unread(draft, node, ("cmd",), "run")
        inside = entries(node, "a command")
        if "cmd" not in inside:
            raise node.error("run has no cmd")
        line, node = inside["cmd"]
    script = " && ".join(filled(one, values, draft, line) for one in texts(node))
    if draft.framework != "env" and re.search(r"[;&|<>$`\n]", script):
        draft.values["run"] = ["bash", "-ec", script]
    else:
        draft.values["run"] = script


def _environment(draft: JobDraft, node: YamlNode) -> None:
    inside = entries(node, "an environment")
    topologies = [name for name in (*_TOPOLOGIES, *_ALIKE) if name in inside]
    unread(draft, node, ("resources", "env_vars", *topologies[:1]), "the environment")
    if len(topologies) > 1:
        raise inside[topologies[1]][1].error(f"{' and '.join(topologies)}: choose one of them")
    if topologies and topologies[0] in _TOPOLOGIES:
        draft.framework = _TOPOLOGIES[topologies[0]][0]
    elif topologies:
        draft.framework = topologies[0]
    if "env_vars" in inside:
        pairs = [(e.line, texts(e)) for e in inside["env_vars"][1].elements()]
        draft.variables((pair[0], "".join(pair[1:]), line) for line, pair in pairs if pair)
    line, resources = inside.get("resources", (0, None))
    master = share(draft, resources, _MIB) if resources is not None else {}
    if not topologies:
        _single(draft, master, line)
    elif topologies[0] in _ALIKE:
        _same_processes(draft, inside[topologies[0]][1])
    else:
        _roles(draft, inside[topologies[0]][1], topologies[0], master)


def _single(draft: JobDraft, master: dict[str, Any], line: int) -> None:
    if "gpus" in master:
        draft.values["resources"] = {"gpus": master["gpus"]}
    if set(master) - {"gpus"}:
        draft.note(line, "cpu and memory limits are not carried over: only roles have them")


def _same_processes(draft: JobDraft, node: YamlNode) -> None:
    unread(draft, node, ("n_workers", "default_worker"), draft.framework)
    draft.values["num_nodes"] = 1 + _count(draft, node, "n_workers")
    draft.note(
        node.line,
        "num_nodes counts a host for each worker and one for the master, with a process per GPU",
    )
    default = entries(node).get("default_worker")
    if default is not None and "resources" in entries(default[1]):
        each = share(draft, entries(default[1])["resources"][1], _MIB)
        if each.get("gpus"):
            draft.gpus(int(each["gpus"]), default[0])
        if set(each) - {"gpus"}:
            draft.note(
                default[0],
                f"cpu and memory limits are not carried over: {draft.framework} has none",
            )


def _roles(draft: JobDraft, node: YamlNode, section: str, master: dict[str, Any]) -> None:
    _, first, worker, server = _TOPOLOGIES[section]
    kinds = {"worker": ("n_workers", worker)}
    if server:
        kinds["ps"] = ("n_ps", server)
    known = [count for count, _ in kinds.values()]
    for kind in kinds:
        known += [kind, f"default_{kind}", f"{kind}_resources", f"default_{kind}_resources"]
    unread(draft, node, tuple(known), section)
    roles = {first: {"resources": master} if master else {"replicas": 1}}
    for kind, (counter, role) in kinds.items():
        count = _count(draft, node, counter)
        if count:
            roles[role] = {"replicas": count, **_role_resources(draft, node, kind, count)}
    draft.values["roles"] = roles


def _role_resources(draft: JobDraft, node: YamlNode, kind: str, count: int) -> dict[str, Any]:
    """Return a role's default resources, and overrides by index, which replace the default."""
    inside = entries(node)
    default: dict[str, Any] = {}
    for key in (f"default_{kind}", f"default_{kind}_resources"):
        if key in inside:
            default = _resources(draft, inside[key][1])
    overrides = {}
    for key in (kind, f"{kind}_resources"):
        for one in inside[key][1].elements() if key in inside else ():
            found = entries(one, "one process")
            if "index" not in found or not text(found["index"][1]).isdigit():
                raise one.error(f"{key} has no index")
            index = int(text(found["index"][1]))
            if index >= count:
                raise one.error(f"{kind} has no process {index}: its indices are 0 to {count - 1}")
            own = _resources(draft, one)
            gone = [name for name in ("cpus", "memory") if name in default and name not in own]
            if gone:
                what = " and ".join(gone)
                draft.note(
                    one.line, f"{kind} {index} has no limit of {what} and takes that of its role"
                )
            no_gpus = {"gpus": 0} if "gpus" in default else {}
            overrides[index] = {"resources": {**no_gpus, **own}}
    settings = {"resources": default, "overrides": overrides}
    return {key: value for key, value in settings.items() if value}


def _resources(draft: JobDraft, node: YamlNode) -> dict[str, Any]:
    """Return the resources under ``resources``, or, in the older form, of ``node`` itself."""
    inside = entries(node)
    if "resources" in inside:
        unread(draft, node, ("index", "resources"), "one process")
        return share(draft, inside["resources"][1], _MIB)
    pairs = [pair for pair in node.yaml.value if pair[0].value != "index"]
    plain = yaml.MappingNode(node.yaml.tag, pairs, node.yaml.start_mark, node.yaml.end_mark)
    return share(draft, YamlNode(plain, node.source), _MIB)


def _count(draft: JobDraft, node: YamlNode, name: str) -> int:
    line, value = entries(node).get(name, (0, None))
    if value is None:
        return 0
    if not re.fullmatch("[0-9]{1,4}", text(value)):
        raise draft.error(line, f"{name} is a whole number")
    return int(text(value))
