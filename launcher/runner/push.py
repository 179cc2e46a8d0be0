"""Copy a folder of this machine to many hosts at once, for data that no run should carry."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ..fleet.fanout import Visited, visit_hosts
from ..records import events as ev
from ..spec.errors import HostError, InputError, SyncError
from ..spec.frozen import frozen
from ..spec.model import Host, Inventory, Node
from ..transport import login_shell, rsync
from ..transport.ssh import AskPassphrase
from .concurrency import in_thread
from .listeners import OnEvent

#: Copies at once: each is an rsync here.
AT_ONCE = 8


@frozen
class Pushed:
    """The bytes that travelled to a host; what it had already did not."""

    sent: int


def place_on_hosts(folder: Path, to: str | None) -> str:
    """Return where a folder goes on hosts: an absolute path, or one below the home there.

    Raises InputError.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder here", "launcher push DIR --hosts HOSTS")
    wanted = f"~/{folder.resolve().name}" if to is None else to
    place = wanted.removeprefix("~/").rstrip("/") if wanted != "/" else ""
    if place.startswith("~") or not place or "\0" in place:
        raise InputError(
            f"--to {wanted}: not a folder to copy to", "such as /data/imagenet or ~/data"
        )
    return place


async def push(
    folder: Path,
    inventory: Inventory,
    hosts: Sequence[Host],
    to: str,
    exclude: Sequence[str],
    on_event: OnEvent,
    ask: AskPassphrase | None = None,
) -> dict[str, Pushed | HostError]:
    """Copy what is in ``folder`` to ``to`` on each host; return the result or the error of each."""
    total = await in_thread(_bytes, folder)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(visited: Visited) -> Pushed:
        def told(percent: int) -> None:
            on_event(ev.SyncProgressed(time.time(), visited.host, percent, total))

        await _make_folder(visited, to)
        arguments = ["--recursive", "--links", "--times", "--perms", "--partial"]
        arguments += [f"--exclude={pattern}" for pattern in exclude]
        async with gate:
            told(0)
            copied = await rsync.copy(
                visited.connection,
                visited.host,
                [*arguments, f"{os.fspath(folder)}/", f"x:{to}/"],
                b"./",
                told,
            )
        return Pushed(copied.sent)

    nodes = [Node(host, number, 0, 0, root=host.workdir) for number, host in enumerate(hosts)]
    return await visit_hosts(inventory, "", nodes, one, ask)


async def _make_folder(visited: Visited, to: str) -> None:
    made = await visited.connection.execute(login_shell.line(f"exec mkdir -p -- {shlex.quote(to)}"))
    complaint = (await made.stderr.read(1 << 12)).decode("utf-8", "replace").strip()
    await made.wait_closed()
    if made.exit_status != 0:
        last = complaint.splitlines()[-1] if complaint else f"cannot make {to}"
        raise SyncError(visited.host, last, "name a folder that you may write to with --to")


def _bytes(folder: Path) -> int:
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except OSError:
                continue
    return total
