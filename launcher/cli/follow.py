"""Follow a run on a screen: signals become requests, and the receipt the exit code."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..records.reasons import WaitReason
from ..records.state import ENDED
from ..spec.frozen import frozen
from . import keys

if TYPE_CHECKING:
    from ..api.client import AsyncClient
    from ..api.handles import AsyncRunHandle
    from ..records.receipt import Receipt
    from .render.run_view import Screen

T = TypeVar("T")
#: Starts a run with a client.
Start = Callable[["AsyncClient"], Awaitable["AsyncRunHandle"]]
#: Waits until what a run has started can be used; returns the receipt if the run ends before.
Ready = Callable[["AsyncRunHandle"], Awaitable["Receipt | None"]]
#: Seconds for which Ctrl-C in a run that this command started means to stop it, without a question.
YOUNG = 60.0
#: Seconds after which the modules are imported that show the end: a start has other work.
SOON = 1.0
#: The exit code after a signal that made us let go of the run: that of a process that SIGTERM ended.
LET_GO = 128 + signal.SIGTERM

QUESTION = "Ctrl-C: s stop (or Ctrl-C again)   d detach, it keeps running   Enter continue"


class Answer(Enum):
    """What a user who pressed Ctrl-C wants."""

    STOP = "s"
    DETACH = "d"
    CONTINUE = "\n"


@frozen
class End:
    """How a command that follows a run ends. Without a receipt it has let go of the run."""

    code: int
    receipt: Receipt | None = None

    def to_json(self, run: str) -> str:
        """Return the receipt, or the name of a run that continues, for programs."""
        value = self.receipt.to_json() if self.receipt else {"run": run}
        return json.dumps(value, indent=2)


async def shown(screen: Screen, run: AsyncRunHandle, asks_after: float | None = 0.0) -> End:
    """Show a run until it ends or is let go.

    Ctrl-C stops the run, and a second one kills it. At a terminal the first one asks, once the run is
    followed for ``asks_after`` seconds (None: never). SIGTERM and SIGHUP leave it running. SIGUSR1,
    which `pull` of an older launcher sends, brings outputs back now.
    """
    watch = _Watch(screen, run, asks_after)
    screen.begin(run)
    async with screen:
        end = await watch.until_over()
    if end.receipt:
        screen.receipt(end.receipt)
    elif run.receipt is None:
        tell_detached(run)
    return end


class _Watch:
    """One run on the screen, and what its user wants by signals and keys."""

    def __init__(self, screen: Screen, run: AsyncRunHandle, asks_after: float | None) -> None:
        self._screen, self._run = screen, run
        self._asks_after, self._begun = asks_after, time.time()
        self._leaving = asyncio.Event()
        self._signal = False
        self._question: ExitStack | None = None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGUSR1, run.request_pull)
        on_hangup(self._signalled)

    async def until_over(self) -> End:
        """Return as soon as the run has ended, or was let go of."""
        ahead = asyncio.ensure_future(_import_ahead())
        try:
            receipt = await _unless_left(self._run.wait(), self._leaving)
        finally:
            ahead.cancel()
            self._close_question()
        if receipt is None:
            receipt = await self._let_go()
        if receipt is None:
            return End(LET_GO if self._signal else 0)
        return End(receipt.exit_code, receipt)

    async def _let_go(self) -> Receipt | None:
        state = self._run.state()
        if self._signal and not (state.all_started or state.waits_on):
            self._screen.stopping()
        return await self._run.detach(in_background=not self._signal)

    def _signalled(self) -> None:
        if self._signal:  # again: do not wait for ranks that are being restarted
            self._screen.flush()
            self._run.remember()
            os._exit(LET_GO)
        self._signal = True
        self._leaving.set()

    def _interrupted(self) -> None:
        if self._question is None and self._asks():
            self._ask()
        else:
            self._close_question()
            self._run.request_stop()
            self._screen.stopping()

    def _asks(self) -> bool:
        if self._asks_after is None or time.time() - self._begun < self._asks_after:
            return False
        if not self._screen.has_keys:
            return False
        state = self._run.state()
        has_begun = state.all_started and state.status not in {"stopping", *ENDED}
        return has_begun and state.stage not in ("collect", "store") and keys.can_ask()

    def _ask(self) -> None:
        self._question = ExitStack()
        self._question.enter_context(keys.pressed(self._answered))
        self._screen.ask(QUESTION)

    def _answered(self, key: str) -> None:
        try:
            answer = Answer("\n" if key == "\r" else key.lower())
        except ValueError:
            return  # another key
        self._close_question()
        if answer is Answer.STOP:
            self._run.request_stop()
            self._screen.stopping()
        elif answer is Answer.DETACH:
            self._leaving.set()
        else:
            self._screen.continuing()

    def _close_question(self) -> None:
        if self._question is not None:
            self._screen.ask(None)
            self._question.close()
            self._question = None


def hangups() -> set[signal.Signals]:
    """Return SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {signal.SIGTERM} if ignored else {signal.SIGTERM, signal.SIGHUP}


def on_hangup(act: Callable[[], None]) -> None:
    """Call ``act`` at :func:`hangups`."""
    for number in hangups():
        asyncio.get_running_loop().add_signal_handler(number, act)


def tell_detached(run: AsyncRunHandle) -> None:
    """Say that a run continues without this command, and how to look at it and stop it."""
    name = run.name
    if run.state().status == "stopping":
        click.echo(f"detached; {name} is stopping: launcher attach {name}", err=True)
        return
    if waits := run.state().waits:
        from .render.waits import left_to, who_starts  # few runs wait

        waits_for = "its time" if waits.why is WaitReason.NOT_YET else "its turn"
        state, hosts = run.state(), run.state().left_to
        among = hosts, state.wanted, state.most
        where = (
            f" on {left_to(*among)}{who_starts(*among)}"
            if hosts and state.is_on_its_own
            else ", and needs this machine until then"
        )
        click.echo(f"detached; {name} waits for {waits_for}{where}", err=True)
        click.echo(f"  look: launcher attach {name}", err=True)
        click.echo(f"  stop: launcher stop {name}", err=True)
        return
    click.echo(f"detached; {name} keeps running", err=True)
    click.echo(f"  look: launcher logs -f {name}", err=True)
    click.echo(f"  stop: launcher stop {name}", err=True)
    if not run.followed_by_another:
        click.echo(f"  follow it again, for restarts and outputs: launcher attach {name}", err=True)


async def _import_ahead() -> None:
    """Import what shows the end: launcher may be upgraded, or removed, while a run goes on."""
    await asyncio.sleep(SOON)
    for name in ("messages", "receipt"):
        await asyncio.to_thread(importlib.import_module, f".render.{name}", __package__)


async def begin(
    client: AsyncClient,
    start: Start,
    screen: Screen,
    detach: bool,
    as_json: bool,
    tell: Callable[[AsyncRunHandle], None] = tell_detached,
    ready: Ready | None = None,
) -> int:
    """Start a run, show it until it ends, and return the exit code.

    With ``detach``, return once all processes run and are ``ready``, or the run waits for its turn. With
    ``as_json``, print the receipt on stdout, or the run's name if it continues detached: ``tell`` says
    so.
    """
    async with client:
        run = await start(client)
        until_started = _until_started(screen, run, tell, ready) if detach else None
        end = await (until_started or shown(screen, run, YOUNG))
    if as_json:
        click.echo(end.to_json(run.name))
    return end.code


async def _until_started(
    screen: Screen,
    run: AsyncRunHandle,
    tell: Callable[[AsyncRunHandle], None],
    ready: Ready | None,
) -> End:
    """Show a run that a background process follows until all its processes run, and are ready."""

    def interrupted() -> None:
        run.request_stop()
        screen.stopping()

    async def started() -> End:
        receipt = await run.wait_until_started(screen.on_event, or_waits=True)
        if receipt is None and ready and not run.state().waits:
            receipt = await ready(run)
        return End(receipt.exit_code if receipt else 0, receipt)

    leaving = asyncio.Event()
    on_hangup(leaving.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted)
    screen.begin(run)
    async with screen:
        try:
            end = await _unless_left(started(), leaving) or End(LET_GO)
        except asyncio.CancelledError:  # Ctrl-C came just before its handler
            run.request_stop()
            raise
    if end.receipt:
        screen.receipt(end.receipt)
    else:
        tell(run)
    return end


async def _unless_left(waiting: Coroutine[Any, Any, T], leaving: asyncio.Event) -> T | None:
    """Return what comes of waiting; None if the user leaves first."""
    tasks = asyncio.ensure_future(waiting), asyncio.ensure_future(leaving.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
