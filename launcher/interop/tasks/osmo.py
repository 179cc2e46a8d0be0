"""Read OSMO workflows of one group: each task becomes a role that starts its own ranks, one per GPU.

Sources: OSMO, "Workflow specification" and "Using PyTorch Distributed (multi-node)".
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ...jobs.durations import seconds
from ...spec.yaml_document import YamlNode, text, texts
from ..source import Text, entries, unread
from . import osmo_commands
from .draft import JobDraft
from .osmo_commands import GroupCommands
from .resources import share
from .templates import Values

_TASK = (
    "name",
    "lead",
    "image",
    "command",
    "args",
    "environment",
    "credentials",
    "resource",
    "inputs",
    "outputs",
    "files",
    "exitActions",
)
_ACTIONS = {"COMPLETE": "complete", "FAIL": "fail", "RESCHEDULE": "restart"}
#: Restarts after an exit code that asks for one; in OSMO this is a setting of the server.
_RESTARTS = 3
_TAKEN = ("rank", "node", "setup")


def read(content: Text, draft: JobDraft) -> None:
    """Read a workflow. Raises DocumentError."""
    root = content.yaml()
    given = entries(root, "a workflow file")
    if "workflow" not in given:
        raise root.error('the file has no "workflow"')
    unread(draft, root, ("version", "workflow", "default-values"), "the file")
    values = Values()
    if "default-values" in given:
        values.add(draft, given["default-values"][1], "default-values")
    flow = given["workflow"][1]
    inside = entries(flow, "a workflow")
    unread(draft, flow, ("name", "resources", "timeout", "groups", "tasks"), "the workflow")
    if "name" in inside:
        line, name = inside["name"]
        draft.name(osmo_commands.plain(text(name), values, draft, line), line)
    if "timeout" in inside:
        _timeout(draft, inside["timeout"][1])
    tasks = _tasks(draft, flow, inside)
    shares = _shares(draft, inside, tasks, values)
    names = {_name(one): _role_name(draft, one) for one in tasks}
    leads = [_is_lead(one) for one in tasks]
    if True in leads[1:] and not leads[0]:
        draft.note(tasks[leads.index(True)].line, "the lead task comes first and has rank 0")
    commands = GroupCommands(
        draft, values, names, {_name(one): shares[_kind(one)] for one in tasks}
    )
    commands.find_clashes([(_name(one), _files(one)) for one in tasks])
    draft.roles(
        {names[_name(one)]: _role(draft, one, commands, shares[_kind(one)]) for one in tasks}
    )
    values.note_unused(draft)


def _tasks(
    draft: JobDraft, flow: YamlNode, inside: dict[str, tuple[int, YamlNode]]
) -> list[YamlNode]:
    """Return the tasks of the only group, or the only task. Raises DocumentError."""
    if "groups" in inside:
        groups = inside["groups"][1].elements()
        if len(groups) != 1 or "tasks" in inside:
            raise flow.error(
                "only a workflow of one group can be imported",
                "put each group in a file of its own and run one after another",
            )
        group = entries(groups[0], "a group")
        unread(draft, groups[0], ("tasks", "ignoreNonleadStatus"), "the group")
        tasks = group["tasks"][1].elements() if "tasks" in group else []
        line, ignores = group.get("ignoreNonleadStatus", (groups[0].line, None))
        if len(tasks) > 1 and (ignores is None or text(ignores).lower() != "false"):
            draft.note(
                line, "any task that fails ends the run, also before the lead task has finished"
            )
    else:
        tasks = inside["tasks"][1].elements() if "tasks" in inside else []
        if len(tasks) > 1:
            raise flow.error(
                "tasks without a group are separate runs",
                "put them in one group, or each in a file of its own",
            )
    if not tasks:
        raise flow.error("the workflow has no tasks")
    for one in tasks:
        if "name" not in entries(one, "a task"):
            raise one.error("a task has no name")
    if len({_name(one) for one in tasks}) < len(tasks):
        raise flow.error("two tasks have the same name")
    return tasks


def _name(one: YamlNode) -> str:
    return text(entries(one)["name"][1])


def _is_lead(one: YamlNode) -> bool:
    inside = entries(one)
    return "lead" in inside and text(inside["lead"][1]).lower() == "true"


def _role_name(draft: JobDraft, one: YamlNode) -> str:
    """Return the role's name: the task's, reduced to the characters that ours may have."""
    name = re.sub("[^A-Za-z0-9_-]+", "-", _name(one)).strip("-_")[:31]
    if not name[:1].isalpha() or name in _TAKEN:
        name = f"task-{name}"[:31]
    if name != _name(one):
        draft.note(one.line, f"the task becomes the role {name}")
    return name


def _kind(one: YamlNode) -> str:
    inside = entries(one)
    return text(inside["resource"][1]) if "resource" in inside else "default"


def _shares(
    draft: JobDraft,
    inside: dict[str, tuple[int, YamlNode]],
    tasks: list[YamlNode],
    values: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """Return the resources of a role for each kind of resources that a task uses."""
    used = dict.fromkeys(map(_kind, tasks))
    known = entries(inside["resources"][1]) if "resources" in inside else {}
    found: dict[str, dict[str, Any]] = {}
    for kind in used:
        if kind not in known and kind != "default":
            raise inside.get("resources", (0, tasks[0]))[1].error(
                f"the workflow has no resources {kind!r}"
            )
        node = _with_values(known[kind][1], values, draft) if kind in known else None
        found[kind] = dict(share(draft, node)) if node is not None else {}
    for kind in set(known) - set(used):
        draft.note(known[kind][0], f"no task uses the resources {kind[:40]}: left out")
    return found


def _with_values(node: YamlNode, values: dict[str, str], draft: JobDraft) -> YamlNode:
    """Return a mapping with the templates of its texts filled in."""
    if not isinstance(node.yaml, yaml.MappingNode):
        return node
    pairs = []
    for key, value in node.yaml.value:
        if isinstance(value, yaml.ScalarNode):
            filled_in = osmo_commands.plain(str(value.value), values, draft, node.line)
            value = yaml.ScalarNode(value.tag, filled_in, value.start_mark, value.end_mark)
        pairs.append((key, value))
    own = yaml.MappingNode(node.yaml.tag, pairs, node.yaml.start_mark, node.yaml.end_mark)
    return YamlNode(own, node.source)


def _timeout(draft: JobDraft, node: YamlNode) -> None:
    for name, (line, value) in entries(node, "time limits").items():
        try:
            limit = f" {seconds(text(value)):.0f}s"
        except ValueError:
            limit = ""
        key = "wait" if name == "queue_timeout" else "time"
        draft.note(line, f"{name} is not carried over: set {key}:{limit}")


def _role(
    draft: JobDraft, one: YamlNode, commands: GroupCommands, share_of: dict[str, Any]
) -> dict[str, Any]:
    inside = entries(one)
    unread(draft, one, _TASK, "the task")
    role: dict[str, Any] = {"replicas": 1}
    if _is_lead(one):
        role["primary"] = True
    if share_of:
        role["resources"] = share_of
    if "image" in inside:
        line, image = inside["image"]
        draft.image(osmo_commands.plain(text(image), commands.values, draft, line), line, role)
    if "environment" in inside:
        pairs = entries(inside["environment"][1]).items()
        role["envs"] = draft.own_variables(
            (name, osmo_commands.plain(text(value), commands.values, draft, line), line)
            for name, (line, value) in pairs
        )
    if "credentials" in inside:
        _credentials(draft, inside["credentials"][1])
    for key, hint in _STORES.items():
        for element in inside[key][1].elements() if key in inside else ():
            unread(draft, element, ("url",), key)
            if "url" in entries(element):
                draft.note(element.line, hint)
    if "exitActions" in inside:
        role["on_exit"] = _on_exit(draft, inside["exitActions"][1])
    role["run"] = _script(one, inside, commands)
    return role


#: These notes leave out the URLs, some of which contain a password.
_STORES = {
    "inputs": "inputs are not fetched: set INPUT_0, which replaces {{input:0}}, or use data: "
    "{NAME: {from: URL, credential: NAME}}, as launcher credential keeps it",
    "outputs": "files in {{outputs}} come back to this machine; output_to: also stores them, "
    "with output_credential:",
}


def _credentials(draft: JobDraft, node: YamlNode) -> None:
    for name, (line, value) in entries(node, "credentials").items():
        if isinstance(value.yaml, yaml.MappingNode):
            for variable in entries(value):
                draft.secret(variable)
                draft.note(line, f"{variable[:60]} is read from your environment (secrets:)")
        else:
            draft.note(
                line,
                f"credential {name[:60]} is a file and is not carried over. If it is for a store: "
                f"launcher credential set {name[:60]}, then credential: {name[:60]} in data: and "
                "outputs:",
            )


def _on_exit(draft: JobDraft, node: YamlNode) -> dict[str, str]:
    """Return our exit actions; with RESCHEDULE, unlisted codes fail without a restart."""
    unread(draft, node, tuple(_ACTIONS), "exitActions")
    found = {
        _ACTIONS[name]: "".join(text(value).split())
        for name, (_, value) in entries(node).items()
        if name in _ACTIONS
    }
    if "restart" in found:
        draft.values["max_restarts"] = _RESTARTS
        draft.note(
            node.line, f"RESCHEDULE restarts all tasks, up to {_RESTARTS} times (max_restarts)"
        )
        if "fail" not in found:
            rest = osmo_commands.others(",".join(found.values()))
            found |= {"fail": rest} if rest else {}
    return found


def _files(
    one: YamlNode, draft: JobDraft | None = None
) -> list[tuple[int, str, str | None, str | None]]:
    """Return line, path, contents and local path of each file of a task.

    With a draft, note other keys. Raises DocumentError for a file without a path.
    """
    inside = entries(one)
    found = []
    for file in inside["files"][1].elements() if "files" in inside else ():
        known = entries(file, "a file")
        if draft is not None:
            unread(draft, file, ("path", "contents", "localpath"), "a file")
        if "path" not in known:
            raise file.error("a file has no path")
        contents, local = (
            text(known[k][1]) if k in known else None for k in ("contents", "localpath")
        )
        found.append((file.line, text(known["path"][1]), contents, local))
    return found


def _script(one: YamlNode, inside: dict[str, tuple[int, YamlNode]], commands: GroupCommands) -> str:
    argv = [word for key in ("command", "args") if key in inside for word in texts(inside[key][1])]
    if not argv:
        raise one.error(f"the task {_name(one)[:40]} has no command")
    line = inside["command" if "command" in inside else "args"][0]
    return commands.script(_name(one), line, argv, _files(one, commands.draft))
