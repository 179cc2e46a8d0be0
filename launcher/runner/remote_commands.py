"""User commands on the hosts of a run, in the run's folder and environment there.

They are visitors: what they start is not part of the run and does not stop with it.
"""

from __future__ import annotations

import asyncio
import posixpath
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import frameworks
from ..fleet.fanout import Visited, visit, visit_hosts
from ..frameworks import rsh
from ..jobs import planner
from ..jobs.environments import around, container_of, visited_role
from ..jobs.preparation import again, visiting
from ..spec.errors import HostError, InputError
from ..spec.frozen import frozen
from ..spec.model import Host, Inventory, Job, Layout, Node, Request
from ..transport import login_shell
from .images.inside import container_spec, visiting_command

if TYPE_CHECKING:
    from ..transport.connection import Reader, RemoteProcess
    from ..transport.ssh import AskPassphrase

#: Variables that a visitor does not get: processes that have them belong to the run.
_OF_THE_RUN = ("LAUNCHER_RUN_ID", "LAUNCHER_HOST")
#: The exit status of a command whose connection was lost.
_NO_STATUS = 128

#: Called with the host, its number in the run, ``out`` or ``err``, and the bytes.
OnOutput = Callable[[str, int, str, bytes], None]


@frozen
class ExecResult:
    """The result of a command on one host. If it could not be run to its end, ``error`` is set and
    ``exit_code`` is that of the error. Output that went to a callback is not here."""

    host: str
    node: int
    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    error: HostError | None = None


class RemoteShell:
    """A terminal on a host: bytes in, bytes out."""

    def __init__(self, process: RemoteProcess) -> None:
        self._process = process

    def write(self, data: bytes) -> None:
        """Send what was typed."""
        self._process.stdin.write(data)

    async def read(self) -> bytes:
        """Return what the terminal shows next; empty after its end."""
        return await self._process.stdout.read(1 << 16)

    def resize(self, columns: int, lines: int) -> None:
        """Set the size of the terminal."""
        self._process.change_terminal_size(columns, lines)


#: Startup files put their own Python first: before its first prompt bash has the run's again.
_AGAIN = "PROMPT_COMMAND='eval \"$LAUNCHER_AGAIN\"; unset PROMPT_COMMAND LAUNCHER_AGAIN'"


async def execute_on_hosts(
    request: Request,
    layout: Layout,
    argv: list[str] | tuple[str, ...],
    number: int | None,
    on_output: OnOutput | None,
    role: str | None = None,
) -> list[ExecResult]:
    """Run a command on all hosts of a run, on those of a role, or on one node. Raises InputError for an
    unknown node or role."""
    typed = shlex.join(argv)
    nodes = chosen_nodes(layout, number, role)

    async def one(visited: Visited) -> ExecResult:
        command = _in_the_run(request.job, layout, visited, typed, role)
        return await _execute(visited, command, on_output)

    return _results(nodes, await visit(request, layout, one, nodes))


async def execute_anywhere(
    inventory: Inventory,
    hosts: Sequence[Host],
    argv: Sequence[str],
    on_output: OnOutput | None,
    ask: AskPassphrase | None = None,
) -> list[ExecResult]:
    """Run a command on hosts of an inventory, in the home and environment of a login there."""
    command = login_shell.line(f"exec {shlex.join(argv)}")
    nodes = [Node(host, n, 0, 0, root=host.workdir) for n, host in enumerate(hosts)]

    async def one(visited: Visited) -> ExecResult:
        return await _execute(visited, command, on_output)

    return _results(nodes, await visit_hosts(inventory, "", nodes, one, ask))


async def _execute(visited: Visited, command: str, on_output: OnOutput | None) -> ExecResult:
    process = await visited.connection.execute(command)
    kept: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}

    async def pass_on(reader: Reader, stream: str) -> None:
        while data := await reader.read(1 << 16):
            if on_output:
                on_output(visited.host, visited.node.node_rank, stream, data)
            else:
                kept[stream] += data

    await asyncio.gather(pass_on(process.stdout, "out"), pass_on(process.stderr, "err"))
    await process.wait_closed()
    code = process.exit_status if process.exit_status is not None else _NO_STATUS
    out, err = bytes(kept["out"]), bytes(kept["err"])
    return ExecResult(visited.host, visited.node.node_rank, code, out, err)


def _results(
    nodes: Sequence[Node], found: Mapping[str, ExecResult | HostError]
) -> list[ExecResult]:
    numbers = {node.host.name: node.node_rank for node in nodes}
    return [
        ExecResult(host, numbers[host], result.exit_code, error=result)
        if isinstance(result, HostError)
        else result
        for host, result in found.items()
    ]


async def open_shell(
    request: Request,
    layout: Layout,
    number: int | None,
    terminal: tuple[str, int, int],
    talk: Callable[[RemoteShell], Awaitable[None]],
    role_name: str | None = None,
) -> int:
    """Open the user's login shell on a node, the first one by default or the first of a role, in a
    terminal (its type, columns and lines); return its exit code once ``talk`` is over.

    Raises InputError for an unknown node or role, HostError.
    """
    nodes = chosen_nodes(layout, number, role_name)[:1]

    async def one(visited: Visited) -> int:
        role = visited_role(visited.node) if role_name is None else role_name
        path = planner.search_path(request.job, visited.node, layout.run_id)
        own = around(request.job, visited.node, role).python
        if own != visited.node.python:  # that of the role comes before the host's
            path = (posixpath.dirname(own), *path)
        first = shlex.quote(":".join(path))
        lines = f"{again(request.job, visited.node, role)}PATH={first}:$PATH"
        shell = f'LAUNCHER_AGAIN={shlex.quote(lines)} {_AGAIN} "${{SHELL:-sh}}" -i'
        if container_of(
            request.job, visited.node, role
        ):  # the image's own shell, which has no startup files of the host
            shell = 'sh -c "if command -v bash >/dev/null; then exec bash -i; else exec sh -i; fi"'
        process = await visited.connection.execute(
            _in_the_run(request.job, layout, visited, shell, role, is_terminal=True), terminal
        )
        await talk(RemoteShell(process))
        await process.wait_closed()
        return process.exit_status if process.exit_status is not None else _NO_STATUS

    (result,) = (await visit(request, layout, one, nodes)).values()
    if isinstance(result, HostError):
        raise result
    return result


def chosen_nodes(layout: Layout, number: int | None, role: str | None = None) -> tuple[Node, ...]:
    """Return the nodes of a run, those with processes of a role, or the one of this number. Raises
    InputError."""
    if not layout.nodes:
        raise InputError(
            f"{layout.run_id} has no hosts: it ended before it had any",
            "launcher show says why; launcher exec --hosts HOSTS -- COMMAND needs no run",
        )
    if role is not None:
        return _nodes_of_role(layout, number, role)
    if number is None:
        return layout.nodes
    nodes = layout.nodes[number : number + 1] if number >= 0 else ()
    if not nodes:
        last = layout.num_nodes - 1
        raise InputError(f"--node {number}: {layout.run_id} has nodes 0 to {last}")
    return nodes


def _nodes_of_role(layout: Layout, number: int | None, role: str) -> tuple[Node, ...]:
    every = dict.fromkeys(task.role for node in layout.nodes for task in node.tasks)
    if role not in every:
        known = f"its roles: {', '.join(every)}" if any(every) else "its processes have no roles"
        raise InputError(f"--role {role}: {layout.run_id} has no role {role}", known)
    having = [node for node in layout.nodes if role in {task.role for task in node.tasks}]
    nodes = tuple(node for node in having if number in (None, node.node_rank))
    if not nodes:
        others = ", ".join(str(node.node_rank) for node in having)
        raise InputError(f"--node {number}: no process of {role} is there", f"nodes: {others}")
    return nodes


def _in_the_run(
    job: Job,
    layout: Layout,
    visited: Visited,
    command: str,
    role: str | None,
    is_terminal: bool = False,
) -> str:
    """Return a command line that runs ``command`` in the run's folder and in the environment of a role,
    that of the node's first process by default; without secrets."""
    node = visited.node
    role = visited_role(node) if role is None else role
    env = planner.early_environment(job, layout, node, 0, role=role)
    settings = [f"{k}={v}" for k, v in env.items() if k not in _OF_THE_RUN and k != "PATH"]
    container = container_spec(job, node, role)
    if container:
        folders = planner.search_path_inside(job, node, layout.run_id, role)
    else:
        folders = planner.search_path(job, node, layout.run_id)
    path, first = ":".join(folders), ""
    framework = frameworks.get(job.framework)
    if node.node_rank == 0 and framework.joins_hosts:
        # the run's own `ssh` comes first, as for its command
        first = posixpath.join(visited.folder, "relay")
        path = f"{first}:{path}"
        settings += [f"{k}={v}" for k, v in rsh.names(layout).items()]
    prepared = shlex.join(visiting(job, node, role, first))
    if container:
        inside = visiting_command(
            container,
            node.root,
            ["sh", "-c", f"exec {prepared} env {command}"],
            dict(one.split("=", 1) for one in settings),
            visited.code,
            path.split(":"),
            is_terminal,
        )
        return login_shell.line(inside)
    return login_shell.line(
        f"cd {shlex.quote(visited.code)} && PATH={shlex.quote(path)}:$PATH "
        f"exec env {shlex.join(settings)} {prepared} env {command}"
    )
