"""Log in by `ssh` and by launcher, and say who came in where."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from pathlib import Path

from launcher.spec.errors import ConnectError
from launcher.spec.model import Host, Inventory
from launcher.transport.ssh import Dialler

#: What a login is told by: the key that was taken, the user, the host, and the address and port there.
WHO = 'cat "$SSH_USER_AUTH"; echo $USER; hostname; set -- $SSH_CONNECTION; echo $3 $4'


def by_openssh(config: Path | None, target: str, within: list[str]) -> list[str] | None:
    """What a login by ssh(1) says; None where it is refused."""
    given = ["-F", str(config)] if config else []
    options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]
    done = subprocess.run(
        [*within, "ssh", *given, *options, target, WHO], capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines() if done.returncode == 0 else None


def _until_reaped() -> None:
    """Wait until each ssh of ours has exited."""
    for thread in threading.enumerate():
        if thread.name.startswith("reaps "):
            thread.join(20)


async def by_launcher(
    config: Path | None, target: str, transport: str | None = None
) -> list[str] | str:
    """What a login by launcher says, which gets all that it sends back; or why it is refused."""
    host = Host(target, transport=transport)
    known = Inventory((host,), ssh_config=str(config) if config else None)
    dialler = Dialler(known)
    try:
        connection = await dialler.connect(target)
        try:
            process = await connection.execute(f"{WHO}; cat")
            process.stdin.write(b"heard\n")
            process.stdin.write_eof()
            out = b""
            while piece := await process.stdout.read(1 << 16):
                out += piece
            *said, last = out.decode().splitlines()
            assert last == "heard"
            return said
        finally:
            connection.close()
            await asyncio.to_thread(_until_reaped)
            await asyncio.sleep(0.05)  # the loop closes their pipes
    except ConnectError as error:
        return str(error)
    finally:
        await dialler.close()
