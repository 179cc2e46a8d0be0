"""A run on a screen: signals to wishes, and a follower in the background for who detaches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..api import runs
from ..records.run_folder import RunFolder, write_json
from ..spec.errors import LauncherError
from ..spec.model import Request

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..runner.attach import Attached
    from ..runner.run import Run
    from .render.run_view import Screen, Watched


async def live(
    screen: Screen,
    run: Watched,
    to_the_end: Coroutine[Any, Any, Receipt],
    stop: Callable[[], None],
    remember: Callable[[], None] = lambda: None,
    pull_now: Callable[[], None] = lambda: None,
) -> Receipt:
    """Shows a run to its end. Ctrl-C asks for the end, a second one kills; SIGHUP detaches, and
    SIGUSR1 brings outputs back at once."""
    screen.begin(run)
    _on_signals(screen, stop, remember)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, pull_now)
    async with screen:
        receipt = await to_the_end
    screen.receipt(receipt)
    return receipt


def _on_signals(screen: Screen, stop: Callable[[], None], remember: Callable[[], None]) -> None:
    def asked() -> None:
        stop()
        screen.stopping()

    def hung_up() -> None:
        with contextlib.suppress(OSError):  # the terminal is gone, or only said so
            screen.flush()
        remember()
        os._exit(128 + signal.SIGHUP)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    loop.add_signal_handler(signal.SIGHUP, hung_up)


def begin(request: Request, screen: Screen, detach: bool, as_json: bool) -> int:
    """Begins a run, here or with a follower of its own; the exit code. ``as_json``: writes its
    receipt on stdout, or its name where it goes on without us."""
    folder = runs.new_folder(request.job)
    ended = _detached(request, folder, screen) if detach else _followed(request, folder, screen)
    if as_json:
        click.echo(json.dumps(ended.to_json() if ended else {"run": folder.name}, indent=2))
    return ended.exit_code if ended else 0


def _followed(request: Request, folder: RunFolder, screen: Screen) -> Receipt:
    try:
        with runs.hosts_of(request):
            run = runs.new_run(request, folder, screen.on_event, screen.on_log)
            return asyncio.run(_in_front(run, screen))
    except KeyboardInterrupt:  # before the run could hear it, or after its end
        if not (folder.path / "run.json").exists():
            shutil.rmtree(folder.path)
        raise


async def _in_front(run: Run, screen: Screen) -> Receipt:
    return await live(screen, run, run.execute(), run.stop, pull_now=run.pull_now)


# -- a follower of its own


def _detached(request: Request, folder: RunFolder, screen: Screen) -> Receipt | None:
    """Leaves the run to a follower in the background, and returns as soon as everything runs: None,
    or the receipt of a run that ended before."""
    request = replace(request, ask_passphrase=None)  # nobody sits before it: ssh-add does
    write_json(folder.path / "shown.json", {})
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become_follower(request, folder)
    folder.close()
    while not (folder.path / "run.json").exists():
        if os.waitpid(child, os.WNOHANG)[0]:
            log = folder.path / "follower.log"
            words = log.read_text("utf-8", "replace").splitlines()
            raise LauncherError(words[-1] if words else "the follower died at once", f"see {log}")
        time.sleep(0.02)
    return asyncio.run(_until_started(runs.attached(folder.name, screen.on_event), screen))


async def _until_started(run: Attached, screen: Screen) -> Receipt | None:
    screen.begin(run)
    _on_signals(screen, run.stop, lambda: None)
    async with screen:
        receipt = await run.until_started()
    if receipt:
        screen.receipt(receipt)
        return receipt
    click.echo(f"it goes on by itself: launcher attach {run.name}", err=True)
    return None


def _become_follower(request: Request, folder: RunFolder) -> NoReturn:
    code = 125
    try:
        os.setsid()
        _away_from_the_terminal(folder)
        folder.hold()
        with runs.hosts_of(request):
            code = asyncio.run(_follow(request, folder)).exit_code
    except LauncherError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _away_from_the_terminal(folder: RunFolder) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder.path / "follower.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, fd in ((0, null), (1, log), (2, log)):
        os.dup2(fd, target)


async def _follow(request: Request, folder: RunFolder) -> Receipt:
    run = runs.new_run(request, folder, lambda event: None, lambda host, name, data: None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    loop.add_signal_handler(signal.SIGUSR1, run.pull_now)
    return await run.execute()
