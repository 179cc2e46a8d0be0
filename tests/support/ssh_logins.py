"""Log in by `ssh` and by launcher, and say who came in where."""

from __future__ import annotations

import subprocess
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


async def by_launcher(config: Path | None, target: str) -> list[str] | str:
    """What a login by launcher says; or why it is refused."""
    known = Inventory((Host(target),), ssh_config=str(config) if config else None)
    dialler = Dialler(known)
    try:
        connection = await dialler.connect(target)
        try:
            process, out = await connection.execute(WHO), b""
            while piece := await process.stdout.read(1 << 16):
                out += piece
            return out.decode().splitlines()
        finally:
            connection.close()
    except ConnectError as error:
        return str(error)
    finally:
        await dialler.close()
