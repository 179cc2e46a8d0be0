"""``launcher exec`` and ``launcher shell``: run commands on the hosts of a run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ...api.hosts import select_hosts
from ...spec.errors import HostError, InputError, UnknownRun
from .. import completion
from ..inventory_lookup import loaded
from ..render.messages import complain, complain_of_hosts
from ..render.run_view import Screen
from ..run_argument import attached, new_client, run_argument

if TYPE_CHECKING:
    from ...api.handles import ExecResult, OnOutput, RemoteShell


#: Seconds for which lines wait for equal ones of other hosts: since the last line, and at most.
HOLD = (1.0, 5.0)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@run_argument
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--node", type=click.IntRange(0), help="Run it only on this node of the run.")
@click.option(
    "--role", help="Run it on the hosts of this role of the run, in its environment or image."
)
@click.option(
    "--hosts",
    shell_complete=completion.hosts,
    help="Run it on these hosts, without a run: launcher exec --hosts gpu[1-4] -- nvidia-smi",
)
@click.pass_context
def exec_command(
    ctx: click.Context,
    word: str,
    words: tuple[str, ...],
    node: int | None,
    role: str | None,
    hosts: str | None,
) -> None:
    """Run a command on all hosts of a run at once, in its folder and environment.

    With --hosts there is no RUN: the command runs in your home there. Lines that hosts have in common
    are shown once. The exit code is the highest one.
    """
    if hosts is not None:
        for flag, given, what in (("--node", node, "node"), ("--role", role, "role")):
            if given is not None:
                raise InputError(
                    f"{flag} is a {what} of a run; --hosts names hosts", "leave one out"
                )
        ctx.exit(asyncio.run(_exec_on(hosts, (word, *words))))
    if not words:
        raise InputError(
            f"no command for {word}",
            f"launcher exec {word} -- COMMAND, or --hosts HOSTS -- COMMAND",
        )
    try:
        ctx.exit(asyncio.run(_exec(word, words, node, role)))
    except UnknownRun as error:
        hint = f"{error.hint}; on hosts, without a run: launcher exec --hosts HOSTS -- COMMAND"
        raise UnknownRun(str(error), hint) from None


async def _exec(word: str, words: tuple[str, ...], node: int | None, role: str | None) -> int:
    screen = Screen(hold=HOLD)
    async with attached(word) as run:
        screen.widen(node.host.name for node in run.layout.nodes)
        async with screen:
            results = await run.exec(words, node=node, role=role, on_output=_shown_on(screen))
    return _highest(results)


async def _exec_on(hosts: str, words: tuple[str, ...]) -> int:
    inventory, screen = loaded(None), Screen(hold=HOLD)
    screen.widen(host.name for host in select_hosts(inventory, hosts))
    async with new_client(inventory) as client, screen:
        results = await client.exec(words, hosts, on_output=_shown_on(screen))
    return _highest(results)


def _shown_on(screen: Screen) -> OnOutput:
    def show(host: str, node: int, stream: str, data: bytes) -> None:
        screen.on_log(host, f"attempt-0/node-{node}.{stream}", data)

    return show


def _highest(results: Sequence[ExecResult]) -> int:
    """Return the exit code for all hosts, after their errors."""
    complain_of_hosts([result.error for result in results if result.error])
    return max((result.exit_code for result in results), default=0)


@click.command("shell")
@run_argument
@click.option("--node", type=click.IntRange(0), help="Node of the run (default: 0).")
@click.option("--role", help="On the first host of this role, in its environment or image.")
@click.pass_context
def shell_command(ctx: click.Context, word: str, node: int | None, role: str | None) -> None:
    """Open a terminal in a run's folder and environment on one of its hosts."""
    ctx.exit(asyncio.run(_shell(word, node, role)))


async def _shell(word: str, node: int | None, role: str | None) -> int:
    async with attached(word) as run:
        if not sys.stdin.isatty():
            raise InputError(
                "launcher shell needs a terminal", "without one: launcher exec RUN -- COMMAND"
            )
        size = os.get_terminal_size()
        terminal = (os.environ.get("TERM", "xterm"), size.columns, size.lines)
        try:
            return await run.shell(_connect, node=node, role=role, terminal=terminal)
        except HostError as error:
            complain(error)
            return error.exit_code


async def _connect(shell: RemoteShell) -> None:
    """Pass keys to the shell, and its output to the terminal here."""

    def resize() -> None:
        size = os.get_terminal_size()
        shell.resize(size.columns, size.lines)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, resize)
    loop.add_reader(0, lambda: shell.write(os.read(0, 1 << 16)))
    try:
        with _raw_terminal():
            while data := await shell.read():
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
    finally:
        loop.remove_reader(0)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass every key to the host, also Ctrl-C."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # TCSADRAIN keeps what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
