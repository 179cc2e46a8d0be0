"""Read SkyPilot tasks.

Sources: SkyPilot, "SkyPilot YAML" and "Distributed Multi-Node Jobs".
"""

from __future__ import annotations

import re
from dataclasses import replace

import yaml

from ...spec.errors import DocumentError
from ...spec.yaml_document import YamlNode, text
from ..source import Text, entries, entries_or_none, unread
from . import node_task
from .draft import JobDraft

_KNOWN = ("name", "workdir", "num_nodes", "resources", "envs", "secrets", "setup", "run")
#: SkyPilot's variables, as expressions of ours.
_VARIABLES = {
    "SKYPILOT_NODE_RANK": "$NODE_RANK",
    "SKYPILOT_NUM_NODES": "$NUM_NODES",
    "SKYPILOT_NUM_GPUS_PER_NODE": "$NUM_TRAINERS",
    "SKYPILOT_TASK_ID": "$LAUNCHER_RUN_ID",
}


def read(content: Text, draft: JobDraft) -> None:
    """Read a single task. Raises DocumentError."""
    root = content.yaml()
    given = entries(root, "a task")
    unread(draft, root, _KNOWN, "the task")
    node_task.name_and_nodes(draft, given, "num_nodes")
    if "workdir" in given:
        line, node = given["workdir"]
        if entries_or_none(node) is None:
            draft.values["workdir"] = text(node)
        else:
            unread(draft, node, (), "workdir (a git repository)")
    if "resources" in given and not given["resources"][1].is_empty():
        _resources(draft, given["resources"][1])
    envs = node_task.pairs(given["envs"][1]) if "envs" in given else []
    secrets = node_task.pairs(given["secrets"][1]) if "secrets" in given else []
    for name, value, line in secrets:
        if value is not None:
            node_task.note_secret(draft, line, name)
    # SkyPilot requires a value on the command line for an empty one.
    draft.variables((name, value or None, line) for name, value, line in envs)
    draft.variables((name, None, line) for name, _, line in secrets)
    if "setup" in given:
        draft.values["setup"] = text(given["setup"][1])
    if "run" in given:
        line, node = given["run"]
        node_task.command(draft, line, text(node), _VARIABLES, "SKYPILOT_NODE_IPS")
        # SkyPilot continues after a command that failed; our shell would stop there.
        draft.values["run"] = f"set +e\n{draft.values['run']}"


def only(content: Text) -> Text:
    """Return the only task of a file, without the document that names a pipeline of one.

    Raises DocumentError for a pipeline of several tasks.
    """
    parts = re.split(r"(?m)^---[ \t]*$", content.content)
    at = [number for number, part in enumerate(parts) if re.search(r"(?m)^run:", part)]
    if len(at) > 1:
        hint = "put each task in a file of its own"
        raise DocumentError("a pipeline of several tasks is not one run", hint, content.source, 1)
    blank = ["\n" * part.count("\n") for part in parts]  # line numbers stay the same
    others = [part for number, part in enumerate(parts) if number not in at]
    if not at or not all(re.fullmatch(r"(\s|#.*|name:.*)*", part) for part in others):
        return content
    blank[at[0]] = parts[at[0]]
    return replace(content, content="".join(blank))


def _resources(draft: JobDraft, node: YamlNode) -> None:
    unread(draft, node, ("accelerators", "infra", "job_recovery", "image_id"), "resources")
    inside = entries(node, "resources")
    if "image_id" in inside:
        line, image = inside["image_id"]
        name = "" if entries_or_none(image) else text(image)
        if name.startswith("docker:"):
            draft.image(name.removeprefix("docker:"), line)
        else:
            draft.note(line, "image_id is not carried over: it is the disk of a machine")
    if "infra" in inside:
        line, infra = inside["infra"]
        cloud, _, pool = text(infra).partition("/")
        if cloud == "ssh" and pool:
            draft.values["hosts"] = pool
            draft.note(line, f"pool {pool} must be a group of the inventory")
        else:
            draft.note(
                line, f"infra {text(infra)[:60]} is not carried over: hosts come from the inventory"
            )
    if "job_recovery" in inside:
        _recovery(draft, *inside["job_recovery"])
    if "accelerators" in inside:
        _accelerators(draft, *inside["accelerators"])


def _recovery(draft: JobDraft, line: int, node: YamlNode) -> None:
    known = entries_or_none(node)
    if known is None:
        draft.note(line, "job_recovery is not carried over: use max_restarts")
        return
    unread(draft, node, ("max_restarts_on_errors",), "job_recovery")
    if "max_restarts_on_errors" in known:
        restarts = text(known["max_restarts_on_errors"])
        if not re.fullmatch("[0-9]{1,6}", restarts):
            raise draft.error(line, "max_restarts_on_errors is a whole number")
        draft.values["max_restarts"] = int(restarts)


def _accelerators(draft: JobDraft, line: int, node: YamlNode) -> None:
    if isinstance(node.yaml, yaml.ScalarNode):
        kind, _, count = text(node).partition(":")
    else:
        several = entries_or_none(node) or {}
        if len(several) != 1:
            if several:
                unread(draft, node, (), "accelerators (a choice of several)")
            else:
                number = len(node.elements())
                draft.note(line, f"a choice of {number} accelerators is not carried over")
            return
        ((kind, value),) = several.items()
        count = text(value)
    if not re.fullmatch("[0-9]{0,3}", count):
        draft.note(line, f"accelerators {kind[:40]}:{count[:9]} are not carried over: set gpus")
        return
    draft.gpus(int(count or 1), line, kind.strip())
