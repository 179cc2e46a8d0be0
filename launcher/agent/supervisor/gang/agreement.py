"""What a host has agreed to while a run waits there: a file in its folder, which outlives a power cut.

See succession.py.
"""

from __future__ import annotations

import os

from ...base import lean, plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.messages import Message

#: In the folder of the run.
NAME = "agreed"
#: Most bytes that are read of it.
LONGEST = 1 << 20
#: What it says where it cannot be read: any host may have begun.
UNKNOWN: "Message" = {"key": "", "hosts": ["?"]}


def keep(key: str, hosts: Sequence[str]) -> bool:
    """Keep on the disk that the run may begin on these hosts, in the wait of this key; return whether it
    does."""
    text = lean.dumps({"key": key, "hosts": list(hosts)}).encode("ascii")
    try:
        made = plain_files.opened(NAME + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            whole = os.write(made, text) == len(text)
            os.fsync(made)
        finally:
            os.close(made)
        if not whole:
            return False
        os.rename(NAME + ".new", NAME)
        folder = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError:
        return False
    return True


def kept() -> Message | None:
    """Return what this host has agreed to; None for nothing."""
    try:
        found = lean.loads(plain_files.content(NAME, 0)[:LONGEST].decode("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return UNKNOWN
    if not isinstance(found, dict) or not isinstance(found.get("key"), str):
        return UNKNOWN
    return found if isinstance(found.get("hosts"), list) else UNKNOWN


def forget() -> None:
    """Note that the run does not begin so, or has begun."""
    for name in (NAME, NAME + ".new"):
        try:
            os.unlink(name)
        except OSError:
            pass
