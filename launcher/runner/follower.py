"""The follower: a background process that follows one run to its receipt and outlives its parent.

It is a fresh Python, not a fork: a library cannot fork a process with threads. The request comes over
stdin, so that secrets are in no file and on no command line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec import startup

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..records.run_folder import RunFolder
    from ..spec.model import Request
    from .run import Run

#: Seconds between two looks at whether a new follower has recorded its run.
LOOK = 0.02
LOG = "follower.log"


async def start(request: Request, folder: RunFolder) -> None:
    """Hand a new run to a follower; return as soon as the follower has recorded it.

    Closes ``folder``. Raises LauncherError when the follower cannot start.
    """
    import pickle
    from dataclasses import replace

    from ..records.run_folder import write_json
    from ..records.run_reader import SHOWN
    from ..spec.errors import LauncherError
    from .concurrency import in_thread

    write_json(folder.path / SHOWN, {})
    folder.close()
    log = folder.path / LOG
    # The follower has no terminal to ask for a passphrase: that is what ssh-add is for.
    alive = await in_thread(
        _spawn, folder.path, pickle.dumps(replace(request, ask_passphrase=None))
    )
    try:
        while not (folder.path / "run.json").exists():
            if _is_closed(alive):
                lines = log.read_text("utf-8", "replace").splitlines()
                message = lines[-1] if lines else "the follower died at once"
                raise LauncherError(message, f"see {log}")
            await asyncio.sleep(LOOK)
    finally:
        os.close(alive)


def _spawn(path: Path, request: bytes) -> int:
    """Start the process; return the end of a pipe that closes when the process ends."""
    package_root = str(Path(__file__).parent.parent.parent)
    python_path = filter(None, (package_root, os.environ.get("PYTHONPATH")))
    alive, held_by_follower = os.pipe()
    os.set_blocking(alive, False)
    try:
        with open(path / LOG, "ab", opener=_private) as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "launcher.runner.follower", str(path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(held_by_follower,),
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


def main(path: str) -> None:
    """Follow the run of a folder; its request comes on stdin."""
    # An older launcher may send this before a handler is set.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    startup.quicken()
    data = sys.stdin.buffer.read()
    if os.fork():
        os._exit(0)  # so that our parent has no child to wait for
    import pickle

    from ..records.run_folder import RunFolder
    from ..spec.errors import LauncherError

    code = 125
    try:
        request: Request = pickle.loads(data)
        folder = RunFolder(Path(path))
        folder.hold()
        code = _follow(request, folder).exit_code
    except LauncherError as error:
        sys.stderr.write(f"{error}\n")
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _follow(request: Request, folder: RunFolder) -> Receipt:
    from ..fleet.sandbox import sandbox_of
    from .attach import follow
    from .run import Run

    async def listening() -> Receipt:
        run = Run(request, folder)
        _on_signals(run)
        return await follow(run, run.execute())

    with sandbox_of(request.inventory):
        return asyncio.run(listening())


def _on_signals(run: Run) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    loop.add_signal_handler(signal.SIGUSR1, run.pull_now)


if __name__ == "__main__":
    main(sys.argv[1])
