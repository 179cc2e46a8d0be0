"""Witnesses on this host: processes of runs that wait elsewhere, by the names of their sockets.

A witness leaves no file. It is found by its name, and ends when its own user asks it to. See
docs/decisions/0086-witnesses.md.
"""

from __future__ import annotations

import binascii
import os
import select
import struct
import time

from ..base.lean import Socket, socket
from ..base.protocol import blake2b
from . import socket_names

#: What a witness is told to end it, and seconds for all that are told to be gone.
END, LEAVES = b"end", 0.5
#: Callers that a witness hears at once: others may come as fast as it sends them away.
CALLERS = 16


def name_of(run: str, host: str, key: str) -> str:
    """Return the name of a witness: of the run, of this host as the inventory calls it, since several
    may share a machine, and of one wait of the run."""
    wait = blake2b(key.encode(), digest_size=4).hexdigest()
    return "%s%08x.%s" % (_of_run(run), binascii.crc32(host.encode()), wait)


def there(run: str) -> list[str]:
    """Return the names of this user's witnesses of a run here."""
    mark, seen = _of_run(run), socket_names.seen()
    names = [name for name in seen if name.startswith(mark)]
    return [name for name in names if socket_names.uid_of(seen[name]) == os.getuid()]


def end(run: str, but: str = "", host: str = "") -> None:
    """End the witnesses of a run here: those of all hosts, or of one; without ``but``. One that stands
    still is not waited for: it ends once it goes on."""
    told: list[Socket] = []
    mark = _of_run(run) + ("%08x." % binascii.crc32(host.encode()) if host else "")
    for name in there(run):
        if name == but or not name.startswith(mark):
            continue
        try:
            line = socket_names.connected(name)
            if line:
                told.append(line)
                line.send(END)
        except OSError:
            continue
    until = time.monotonic() + LEAVES
    for line in told:
        with line:
            select.select([line], [], [], max(0.0, until - time.monotonic()))  # hung up: it is gone


def is_asked_to_end(listener: Socket) -> bool:
    """Return whether somebody of this user has connected to a witness to end it. Nobody else can."""
    for _ in range(CALLERS):
        try:
            caller = listener.accept()[0]
        except OSError:
            return False
        with caller:
            caller.settimeout(1.0)
            try:
                about = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                if struct.unpack("=iII", about)[1] == os.getuid() and caller.recv(8) == END:
                    return True
            except OSError:
                continue
    return False


def _of_run(run: str) -> str:
    return "witness/%s/" % socket_names.short(run)
