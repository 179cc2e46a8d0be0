"""``launcher exec`` and ``launcher shell``: commands of the user's on the hosts of a run."""

from __future__ import annotations

import asyncio
import os
import posixpath
import shlex
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncssh
import click

from ... import frameworks
from ...api import runs
from ...fleet.fanout import Place, visit
from ...frameworks import rsh
from ...jobs import planner
from ...spec.errors import HostError, InputError
from .. import complain
from ..render.run_view import Screen
from ..run_argument import run_argument, taken_up

if TYPE_CHECKING:
    from ...runner.attach import Attached
    from ...spec.model import Node

#: Not for a visitor: processes that carry these belong to the run, and end with it.
_OF_THE_RUN = ("LAUNCHER_RUN_ID", "LAUNCHER_HOST")


def _in_the_run(run: Attached, place: Place, words: str) -> str:
    """A command in the run's folder and environment there; secrets are not in it."""
    node = place.node
    env = planner.environment(run.request.job, run.layout, node, planner.NOWHERE, 0)
    settings = [f"{k}={v}" for k, v in env.items() if k not in _OF_THE_RUN and k != "PATH"]
    path = ":".join(planner.search_path(node, run.name))
    framework = frameworks.get(run.request.job.framework)
    if node.node_rank == 0 and framework.joins_hosts:
        path = f"{posixpath.join(place.folder, 'relay')}:{path}"  # its `ssh`, as its command has it
        settings += [f"{k}={v}" for k, v in rsh.names(run.layout).items()]
    return (
        f"cd {shlex.quote(place.code)} && PATH={shlex.quote(path)}:$PATH "
        f"exec env {shlex.join(settings)} {words}"
    )


@click.command("exec", context_settings={"ignore_unknown_options": True})
@run_argument
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--node", type=click.IntRange(0), help="Only on this node of the run.")
@click.pass_context
def exec_command(ctx: click.Context, word: str, words: tuple[str, ...], node: int | None) -> None:
    """Runs a command on all hosts of a run at once, in its folder and environment. Lines that hosts
    have in common are shown once. The exit code is the highest one."""
    run = taken_up(word)
    with runs.hosts_of(run.request):
        codes = asyncio.run(_exec(run, shlex.join(words), node))
    ctx.exit(max(codes, default=0))


async def _exec(run: Attached, words: str, number: int | None) -> list[int]:
    screen = Screen()
    screen.widen(node.host.name for node in run.layout.nodes)

    async def one(place: Place) -> int:
        command = _in_the_run(run, place, words)
        process = await place.connection.create_process(command, encoding=None)
        node = place.node.node_rank

        async def show(reader: asyncssh.SSHReader[bytes], stream: str) -> None:
            while data := await reader.read(1 << 16):
                screen.on_log(place.host, f"attempt-0/node-{node}.{stream}", data)

        await asyncio.gather(show(process.stdout, "out"), show(process.stderr, "err"))
        await process.wait_closed()
        return process.exit_status if process.exit_status is not None else 128

    async with screen:
        found = await visit(run.request, run.layout, one, _chosen(run, number))
    return [_code(result) for result in found.values()]


def _chosen(run: Attached, number: int | None) -> tuple[Node, ...]:
    if number is None:
        return run.layout.nodes
    nodes = run.layout.nodes[number : number + 1]
    if not nodes:
        last = run.layout.num_nodes - 1
        raise InputError(f"--node {number}: {run.name} has nodes 0 to {last}")
    return nodes


def _code(result: int | HostError) -> int:
    if isinstance(result, HostError):
        complain(result)
        return result.exit_code
    return result


@click.command("shell")
@run_argument
@click.option("--node", type=click.IntRange(0), default=0, help="Node of the run (default: 0).")
@click.pass_context
def shell_command(ctx: click.Context, word: str, node: int) -> None:
    """Opens a real terminal in a run's folder and environment on one of its hosts."""
    run = taken_up(word)
    if not sys.stdin.isatty():
        raise InputError("launcher shell needs a terminal", "launcher exec RUN -- COMMAND")
    with runs.hosts_of(run.request):
        (code,) = asyncio.run(_shell(run, node))
    ctx.exit(code)


async def _shell(run: Attached, number: int) -> list[int]:
    async def one(place: Place) -> int:
        size = os.get_terminal_size()
        process = await place.connection.create_process(
            _in_the_run(run, place, '"${SHELL:-sh}" -i'),
            term_type=os.environ.get("TERM", "xterm"),
            term_size=(size.columns, size.lines),
            encoding=None,
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, _resize, process)
        loop.add_reader(0, lambda: process.stdin.write(os.read(0, 1 << 16)))
        try:
            with _raw_terminal():
                while data := await process.stdout.read(1 << 16):
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
        finally:
            loop.remove_reader(0)
        await process.wait_closed()
        return process.exit_status if process.exit_status is not None else 128

    found = await visit(run.request, run.layout, one, _chosen(run, number))
    return [_code(result) for result in found.values()]


def _resize(process: asyncssh.SSHClientProcess[bytes]) -> None:
    size = os.get_terminal_size()
    process.change_terminal_size(size.columns, size.lines)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the other side, Ctrl-C as well."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
