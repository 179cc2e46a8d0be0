"""The first part of the agent does all that is asked of it without the rest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.transport import agent_bundle
from launcher.transport.agent_parts import REST, is_plain

ROOM = Path(agent_bundle.__file__).parents[1]
SPEC = {"host": "a", "attempt": 0, "grace": 5.0, "orphan_timeout": None, "stall": 9.0, "keep": None}
SUPERVISE: dict[str, Any] = {"run": "r", "programs": {"python": "exec"}, "spec": SPEC, "record": {}}
PROCESS = {
    "key": "rank-0",
    "argv": ["python", "train.py"],
    "env": {"A": "b"},
    "cwd": "/",
    "rank": 0,
}
START: dict[str, Any] = {
    "run": "r",
    "stage": "run",
    "attempt": 0,
    "path": [],
    "processes": [PROCESS],
}

#: By importer in the first part, what it imports of the rest, and a request that leads there.
GATES: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("main", "mesh/cluster"): ("start", {**START, "processes": [{**PROCESS, "argv": ["p", "/a/start.py", "cluster"]}]}),
    ("main", "mesh/peers"): ("start", {**START, "peer": {"host": "a"}}),
    ("main", "mesh/sharing"): ("start", {**START, "share": {"hub": "a"}}),
    ("main", "mesh/slurm"): ("supervise", {**SUPERVISE, "programs": {"srun": "exec /a/start.py slurm"}}),
    ("main", "mesh/ssh"): ("start", {**START, "processes": [{**PROCESS, "env": {"RSH": "p /a/start.py ssh"}}]}),
    ("main", "relay/kept_pythons"): ("supervise", {**SUPERVISE, "warm": {}}),
    ("relay/relay", "host/project_round"): ("project", {}),
    ("relay/relay", "relay/data/requests"): ("data", {}),
    ("relay/relay", "relay/environments"): ("environment", {}),
    ("relay/relay", "relay/images/requests"): ("image", {}),
    ("relay/relay", "relay/kept_pythons"): ("kept", {}),
    ("relay/relay", "relay/now"): ("now", {}),
    ("relay/relay", "relay/usage"): ("prune", {}),
    ("relay/relay", "supervisor/gang/witness"): ("witness", {}),
    ("relay/self_tests", "host/echo_server"): ("mirror", {}),
    ("relay/self_tests", "host/reachability"): ("explore", {}),
    ("relay/self_tests", "host/speed"): ("bandwidth", {}),
    ("relay/self_tests", "host/survey"): ("survey", {}),
    ("relay/supervise", "relay/kept_pythons"): ("supervise", {**SUPERVISE, "warm": None}),
    ("relay/supervise", "relay/unattended"): ("unattended", {}),
    ("supervisor/children", "supervisor/contained"): ("start", {**START, "processes": [{**PROCESS, "container": {"image": "i"}}]}),
    ("supervisor/daemon", "supervisor/warm/keeper"): ("supervise", {**SUPERVISE, "spec": {**SPEC, "keep": 9.0}}),
    ("supervisor/daemon", "supervisor/staying"): ("start", {**START, "stay": 1}),
    ("supervisor/daemon", "supervisor/gang/witness"): ("gather", {}),
    ("supervisor/imported_ahead", "supervisor/warm/forking"): ("preload", {}),
    ("supervisor/queueing", "supervisor/gang/gathered"): ("return", {}),
    ("supervisor/queueing", "supervisor/gang/returning"): ("gather", {}),
    ("supervisor/queueing", "supervisor/gang/agreement"): ("gather", {}),
    ("supervisor/queueing", "supervisor/gang/ways"): ("gather", {}),
    ("supervisor/queueing", "supervisor/waiting"): ("wait", {}),
    ("supervisor/supervisor", "base/manifest"): ("unattended", {}),
    ("supervisor/supervisor", "supervisor/projects/member"): ("member", {}),
}  # fmt: skip


def imports(tree: ast.AST) -> Iterator[ast.ImportFrom]:
    """What a module imports at any time, but for type checkers."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for other in child.orelse:
                yield from imports(other)
        else:
            yield from imports(child)


def modules_of(name: str, statement: ast.ImportFrom) -> Iterator[str]:
    """The modules of the agent that a statement in one of them imports."""
    folder = name.split("/")[: -statement.level] if statement.level else []
    path = [*folder, *(statement.module or "").split(".")]
    for imported in statement.names:
        for words in ([*path, imported.name], path):
            module = "/".join(filter(None, words)) + ".py"
            if (ROOM / module).is_file():
                yield module
                break


def test_only_requests_for_the_rest_lead_to_it() -> None:
    found = set()
    for name, content in agent_bundle.agent_files().items():
        if name.startswith("agent/") and not name.startswith(REST):
            for statement in imports(ast.parse(content)):
                later = [one for one in modules_of(name, statement) if one.startswith(REST)]
                found |= {(name[6:-3], one[6:-3]) for one in later}
    assert found == set(GATES)


def test_the_first_part_has_nothing_that_it_does_not_import() -> None:
    files = agent_bundle.agent_files()
    first = {one for one in files if one.startswith("agent/") and not one.startswith(REST)}
    found, ahead = set(), ["agent/main.py", *(one for one in first if "/inside/" in one)]
    while ahead:
        name = ahead.pop()
        if name in first and name not in found:
            found.add(name)
            packages = [str(one / "__init__.py") for one in Path(name).parents]
            statements = imports(ast.parse(files[name]))
            ahead += [*packages, *(one for each in statements for one in modules_of(name, each))]
    assert first - found == set(), "name it in REST of launcher/transport/agent_parts.py"


@pytest.mark.parametrize("gate", GATES, ids=" ".join)
def test_a_request_that_leads_to_the_rest_is_not_plain(gate: tuple[str, str]) -> None:
    assert not is_plain(*GATES[gate])


def test_what_every_run_asks_is_plain() -> None:
    shim = {**PROCESS, "argv": ["python", "-I", "/a/start.py", "rank", "--", "python", "x.py"]}
    assert is_plain("supervise", SUPERVISE)
    assert is_plain("start", {**START, "processes": [PROCESS, shim], "stay": None})
    assert all(
        is_plain(op, {}) for op in ("probe", "snapshot", "follow", "sweep", "search", "turn")
    )
    assert not is_plain("a request that is new", {})


def test_each_name_of_the_rest_is_of_a_module() -> None:
    names = agent_bundle.agent_files()
    assert [one for one in REST if not any(name.startswith(one) for name in names)] == []
