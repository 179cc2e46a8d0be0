"""Read dstack tasks.

Sources: dstack's reference of ``.dstack.yml``, page "task", and its guide "Distributed tasks".
"""

from __future__ import annotations

import re
import shlex

import yaml

from ...spec.yaml_document import YamlNode, text, texts
from ..source import Text, entries, entries_or_none, unread
from . import node_task
from .draft import JobDraft

_KNOWN = (
    "type",
    "name",
    "nodes",
    "image",
    "env",
    "commands",
    "resources",
    "working_dir",
    "stop_criteria",
    "shell",
    "volumes",
    "max_duration",
)
_VARIABLES = {
    "DSTACK_NODE_RANK": "$NODE_RANK",
    "DSTACK_NODES_NUM": "$NUM_NODES",
    "DSTACK_MASTER_NODE_IP": "$MASTER_ADDR",
    "DSTACK_GPUS_PER_NODE": "$NUM_TRAINERS",
    "DSTACK_GPUS_NUM": "$((NUM_TRAINERS * NUM_NODES))",
    "DSTACK_RUN_NAME": "$LAUNCHER_RUN_ID",
}
_SECRET = re.compile(r"\$\{\{\s*secrets\.([A-Za-z0-9_-]+)\s*\}\}")


def read(content: Text, draft: JobDraft) -> None:
    """Read a task. Raises DocumentError."""
    root = content.yaml()
    given = entries(root, "a task")
    if "type" not in given or text(given["type"][1]) != "task":
        raise root.error("only type: task can be imported")
    unread(draft, root, _KNOWN, "the task")
    node_task.name_and_nodes(draft, given, "nodes")
    line, gpus = _gpus(draft, given["resources"][1]) if "resources" in given else (0, 0)
    leads = "stop_criteria" in given and text(given["stop_criteria"][1]) == "master-done"
    if gpus and not leads:
        draft.gpus(gpus, line)
    if "env" in given:
        draft.variables(_shown(draft, pair) for pair in node_task.pairs(given["env"][1]))
    if "image" in given:
        draft.image(text(given["image"][1]), given["image"][0])
    if "volumes" in given:
        _volumes(draft, given["volumes"][1])
    if "max_duration" in given:
        line, limit = given["max_duration"]
        draft.note(
            line,
            f"max_duration is not carried over: set time: {text(limit)[:20]}",
        )
    if "commands" in given:
        line, node = given["commands"]
        _commands(draft, given, line, "\n".join(one.rstrip("\n") for one in texts(node)))
    if leads and "run" in draft.values:
        _primary(draft, given["stop_criteria"][0], gpus)
    elif "stop_criteria" in given and text(given["stop_criteria"][1]) != "all-done":  # our default
        line, node = given["stop_criteria"]
        draft.note(line, f"stop_criteria {text(node)[:40]} is not carried over")


def _shown(draft: JobDraft, pair: node_task.Pair) -> node_task.Pair:
    """Return a variable; one that refers to a secret of dstack's server loses its value."""
    name, value, line = pair
    if value is None or not (found := _SECRET.search(value)):
        return pair
    node_task.note_secret(draft, line, f"{name} (dstack secret {found[1]})")
    return name, None, line


def _volumes(draft: JobDraft, node: YamlNode) -> None:
    """Turn paths of the host into ``needs``: they must exist. Without an image, nothing is mounted."""
    needs, mounts = [], []
    for one in node.elements("a list of volumes"):
        inside = entries_or_none(one) or {}
        if inside:
            named = inside.get("instance_path") or inside.get("name")
            volume = text(named) if named else ""
            mounted_at = text(inside["path"]) if "path" in inside else ""
            unread(draft, one, ("instance_path", "name", "path"), "a volume")
        else:
            volume, _, mounted_at = text(one).partition(":")
        if volume.startswith("/"):
            needs.append(volume)
            if "environment" in draft.values and ":" not in volume + mounted_at:
                mounts.append(f"{volume}:{mounted_at or volume}")
            else:
                draft.note(one.line, f"nothing is mounted: use {volume[:60]} for {mounted_at[:60]}")
        else:
            draft.note(
                one.line, f"the volume {volume[:40]} at {mounted_at[:60]} is not carried over"
            )
    if needs:
        draft.values["needs"] = needs
    if mounts:
        draft.values["environment"]["mounts"] = mounts


def _commands(
    draft: JobDraft, given: dict[str, tuple[int, YamlNode]], line: int, script: str
) -> None:
    if "working_dir" in given:
        folder = text(given["working_dir"][1])
        script = f"cd {shlex.quote(folder)}\n{script}"
        if folder.startswith("/"):
            at = given["working_dir"][0]
            where = "may be a" if "environment" in draft.values else "was a"
            draft.note(at, f"{folder[:60]} {where} folder of the image: check that it is there")
    if "shell" in given and (shell := text(given["shell"][1])) not in ("bash", "/bin/bash"):
        draft.note(given["shell"][0], f"the commands run in bash instead of {shell[:40]}")
    node_task.command(draft, line, script, _VARIABLES, "DSTACK_NODES_IPS")


def _primary(draft: JobDraft, line: int, gpus: int) -> None:
    """Turn nodes into roles with a primary master, since the first node's end ends the run."""
    nodes = int(draft.values.pop("num_nodes", 1))
    each = {"resources": {"gpus": gpus}} if gpus else {}
    roles: dict[str, object] = {"master": {"replicas": 1, "primary": True, "spread": True, **each}}
    if nodes > 1:
        roles["worker"] = {"replicas": nodes - 1, "spread": True, **each}
    for number in range(nodes):
        role = "master" if number == 0 else f"worker.{number - 1}"
        node, other = f"{{{{host:node.{number}}}}}", f"{{{{host:{role}}}}}"
        draft.values["run"] = draft.values["run"].replace(node, other)
    draft.values["roles"] = roles
    if nodes > 1:
        draft.values["num_nodes"] = nodes
    draft.note(
        line,
        "the first node becomes the role master, whose end ends the run; "
        "nodes become processes of roles",
    )


def _gpus(draft: JobDraft, node: YamlNode) -> tuple[int, int]:
    """Return the line that sets the GPUs of a node, and their number (0: none)."""
    unread(draft, node, ("gpu",), "resources")
    line, gpu = entries(node, "resources").get("gpu", (0, None))
    if gpu is None:
        return line, 0
    if isinstance(gpu.yaml, yaml.MappingNode):
        unread(draft, gpu, ("count",), "gpu")
        inside = entries(gpu)
        count = text(inside["count"][1]) if "count" in inside else "1"
    else:
        parts = text(gpu).split(":")
        counts = [part for part in parts if re.fullmatch(r"[0-9]+(\.\.[0-9]*)?", part)]
        count = counts[-1] if counts else "1"
        if others := [part for part in parts if part not in counts]:
            kind = ":".join(others)[:60]
            draft.note(
                line, f"the GPU type ({kind}) is not carried over: select hosts by name or label"
            )
    least = re.match(r"[0-9]{1,3}(?![0-9])", count)
    if least is None:
        draft.note(line, "a GPU count without a lower bound is not carried over: set gpus")
        return line, 0
    if ".." in count:
        draft.note(line, f"the lower bound of the GPU range, {least[0]}, is used")
    return line, int(least[0])
