"""The two parts of the agent: what a run needs goes to a host first, the rest when a request needs it.

A module is in the first part unless it is named here. tests/unit/transport/test_agent_parts.py looks for
imports of the rest that no request here stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: How the files of the rest begin.
REST = tuple(
    f"agent/{name}"
    for name in (
        "base/blocks", "base/folder_sums", "base/manifest", "base/memory_files", "base/messages",
        "host/devices", "host/echo_server", "host/infiniband", "host/podman_answers", "host/project_",
        "host/reachability", "host/runtimes", "host/software", "host/speed", "host/survey",
        "mesh/cluster", "mesh/commands", "mesh/outbox", "mesh/passing", "mesh/peers",
        "mesh/shared_tree", "mesh/sharing", "mesh/slurm", "mesh/ssh", "mesh/tls",
        "processes/build_guard", "processes/inherited", "relay/data/", "relay/disk",
        "relay/environments", "relay/images/", "relay/kept_pythons", "relay/now", "relay/signed_urls",
        "relay/steps", "relay/unattended", "relay/usage", "relay/wanted", "supervisor/contained",
        "supervisor/gang/", "supervisor/kept", "supervisor/projects/", "supervisor/stands",
        "supervisor/staying", "supervisor/template", "supervisor/turns", "supervisor/waiting",
        "supervisor/warm/",
    )
)  # fmt: skip

#: Requests that the first part can do, whatever is in them.
_PLAIN = frozenset((
    "add", "alive", "attended", "claim", "clock", "connect", "contact", "discard", "end_orphans",
    "follow", "found", "gang", "listen", "outputs", "patch", "probe", "pythons", "release",
    "remove", "runs", "seal", "search", "snapshot", "stacks", "stdin", "stop", "sweep", "turn",
    "unlisten", "unmirror",
))  # fmt: skip
#: What a request to supervise or to start may have besides; of anything else the rest may have to do it.
_SUPERVISED = frozenset((
    "host", "attempt", "grace", "orphan_timeout", "stall", "inside", "own_hosts",
))  # fmt: skip
_STARTED = frozenset((
    "run", "stage", "attempt", "path", "own_path", "processes", "secrets", "port", "ports", "gpus",
    "gpu_uuids", "gpu_vendor", "news", "own_hosts", "seconds", "stdin", "meets_by",
))  # fmt: skip
_PROCESS = frozenset((
    "key", "argv", "env", "cwd", "rank", "role", "index", "primary", "primaries", "on_exit",
    "limits", "stdin", "path",
))  # fmt: skip
#: The end of the agent's start file, and its commands that the first part has.
_START = "/start.py"
_COMMANDS = frozenset(("rank", "await-port"))


def is_plain(op: str, request: Mapping[str, Any]) -> bool:
    """Return whether the first part of the agent can do all of this request."""
    if op == "supervise":
        is_new = "warm" not in request and "next" not in request
        calls = any(_START in text for text in request.get("programs", {}).values())
        return is_new and not calls and _has_only(request["spec"], _SUPERVISED)
    if op == "start":
        return _has_only(request, _STARTED) and all(map(_is_plain, request["processes"]))
    return op in _PLAIN


def _has_only(fields: Mapping[str, Any], known: Iterable[str]) -> bool:
    return {name for name, value in fields.items() if value}.issubset(known)


def _is_plain(process: Mapping[str, Any]) -> bool:
    argv = process["argv"]
    words = [(word, after) for word, after in zip(argv, [*argv[1:], ""], strict=True)]
    words += [(value, "") for value in process["env"].values()]
    calls = [after for word, after in words if _START in word]
    return _has_only(process, _PROCESS) and _COMMANDS.issuperset(calls)
