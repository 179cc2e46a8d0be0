"""The follower: a background process that follows one run to its receipt and outlives its parent.

It starts a new run, or follows one again that nobody follows. SIGTERM and SIGHUP, as at a shutdown or a
logout, make it let go of the run, which continues on its hosts.

It is a fresh Python, not a fork: a library cannot fork a process with threads. The request comes over
stdin, so that secrets are in no file and on no command line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec import startup

if TYPE_CHECKING:
    from ..records.run_folder import RunFolder
    from ..spec.model import Request
    from .run import Run

#: Seconds between two looks at whether a new follower has recorded its run.
LOOK = 0.02
#: The exit code of a process that let go of a run: that of one that SIGTERM ended.
LET_GO = 128 + signal.SIGTERM
LOG = "follower.log"


async def start(request: Request, folder: RunFolder) -> None:
    """Hand a new run to a follower; return as soon as the follower has recorded it.

    Closes ``folder``; the run is held all the time. If this is cancelled, the follower stops the run:
    the user of a run without a name could not. Raises LauncherError when the follower cannot start.
    """
    from ..records.record_files import write_json
    from ..records.run_reader import SHOWN
    from ..spec.errors import RecordError
    from . import wishes

    write_json(folder.path / SHOWN, {})
    lock = folder.hand_over()
    try:
        await _begin(request, folder.path, (folder.path / "run.json").exists, lock)
    except asyncio.CancelledError:
        with suppress(RecordError):
            wishes.ask_stop(folder.path, request.job.grace)
        raise
    finally:
        os.close(lock)


async def resume(request: Request, path: Path) -> None:
    """Have a follower follow a run that nobody follows; return as soon as it does, or the run is over.

    Raises LauncherError when the follower cannot start.
    """
    from ..records.run_reader import RunReader

    reader = RunReader(path)
    reader.note_shown()
    await _begin(request, path, lambda: bool(reader.follower()) or reader.receipt() is not None)


async def _begin(request: Request, path: Path, has_begun: Callable[[], bool], *lock: int) -> None:
    import pickle
    from dataclasses import replace

    from ..spec.errors import LauncherError
    from .concurrency import in_thread

    log = path / LOG
    # The follower has no terminal to ask for a passphrase: that is what ssh-add is for.
    data = pickle.dumps(replace(request, ask_passphrase=None))
    alive = await in_thread(_spawn, path, data, *lock)
    try:
        while not has_begun():
            if _is_closed(alive):
                lines = log.read_text("utf-8", "replace").splitlines()
                message = lines[-1] if lines else "the follower died at once"
                raise LauncherError(message, f"see {log}")
            await asyncio.sleep(LOOK)
    finally:
        os.close(alive)


def _spawn(path: Path, request: bytes, *lock: int) -> int:
    """Start the process, which inherits the lock of its run if that is held; return the end of a pipe
    that closes when the process ends."""
    package_root = str(Path(__file__).parent.parent.parent)
    python_path = filter(None, (package_root, os.environ.get("PYTHONPATH")))
    alive, held_by_follower = os.pipe()
    os.set_blocking(alive, False)
    try:
        with open(path / LOG, "ab", opener=_private) as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "launcher.runner.follower",
                    str(path),
                    *map(str, lock),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(held_by_follower, *lock),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path)},
            )
        child.communicate(request)
    except BaseException:
        os.close(alive)
        raise
    finally:
        os.close(held_by_follower)
    return alive


def _is_closed(pipe: int) -> bool:
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(path: str, lock: str | None = None) -> None:
    """Follow the run of a folder, whose ``lock`` this process may have inherited; its request comes on
    stdin."""
    # An older launcher may send this before a handler is set.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    startup.quicken()
    data = sys.stdin.buffer.read()
    if os.fork():
        os._exit(0)  # so that our parent has no child to wait for
    import pickle

    from ..records.run_folder import RunFolder
    from ..records.run_lock import RunLock
    from ..spec.errors import LauncherError

    code = 125
    try:
        request: Request = pickle.loads(data)
        if lock:
            os.set_inheritable(int(lock), False)  # no child of ours keeps it
        folder = RunFolder(Path(path), RunLock(Path(path), int(lock)) if lock else None)
        if folder.hold():
            code = _follow(request, folder)
    except LauncherError as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _follow(request: Request, folder: RunFolder) -> int:
    """Follow a run to its receipt, and return the exit code; LET_GO if a signal came first."""
    from ..fleet.sandbox import sandbox_of
    from ..records.run_reader import RunReader
    from .attach import follow, until_let_go
    from .run import Run

    async def listening() -> int:
        reader = RunReader(folder.path)
        is_new = not (folder.path / "run.json").exists()
        run = Run(request, folder, started=None if is_new else reader.started)
        leaving = _on_signals(run)
        work = run.execute() if is_new else run.resume(reader.layout)
        working = asyncio.ensure_future(follow(run, work))
        receipt = await until_let_go(working, leaving, run.until_on_its_own)
        if receipt is None:
            sys.stderr.write(f"detached by a signal; {folder.name} keeps running\n")
        return LET_GO if receipt is None else receipt.exit_code

    with sandbox_of(request.inventory):
        return asyncio.run(listening())


def _on_signals(run: Run) -> asyncio.Event:
    """Handle signals; return what is set by those that mean to let go of the run."""
    loop, leaving = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, run.stop)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leaving.set)
    loop.add_signal_handler(signal.SIGUSR1, run.pull_now)
    return leaving


if __name__ == "__main__":
    main(*sys.argv[1:])
