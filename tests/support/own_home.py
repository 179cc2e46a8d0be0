"""Run a command with another home, also for OpenSSH: it looks homes up in the user database."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def at_home(home: Path, argv: list[str]) -> list[str]:
    """Return the command that runs ``argv`` where the user database has ``home`` for this user.

    Needs root: the command has a mount namespace of its own, with another ``/etc/passwd``.
    """
    mine = pwd.getpwuid(os.getuid())
    passwd = home.parent / f"passwd-{home.name}"
    lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
    own = ":".join(
        (mine.pw_name, "x", str(mine.pw_uid), str(mine.pw_gid), "", str(home), "/bin/sh")
    )
    others = [line for line in lines if not line.startswith(f"{mine.pw_name}:")]
    passwd.write_text("".join((f"{own}\n", *others)))
    script = 'mount --bind "$0" /etc/passwd && exec "$@"'
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, str(passwd), *argv]
