"""Keeps what programs of this machine have answered, as long as nothing changes that answers depend on.

Starting ``ssh -G`` for each host and ``rsync --version`` takes a tenth of the CPU of a start. In doubt,
nothing is kept, and a program is asked again.
"""

from __future__ import annotations

import binascii
import json
import os
import pwd
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..spec.home import home, make_home

#: Bytes of a file of notes that is read at all.
MOST = 4 << 20
#: What a file of notes starts with, before the sum of the rest. The number grows when any note changes
#: its form.
_HEAD = b"launcher-notes 1"
#: Seconds without a change after which a file counts as it was: the clocks of file systems are coarse.
SETTLED = 2.0
#: How a program begins that is no script: a script may start another program tomorrow.
_COMPILED = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")

#: What tells whether a file, a folder or a program is as it was; None for none.
State = list[int] | None


def state_of(path: str) -> State:
    """Return what changes when somebody writes to a file, replaces it, or adds one to a folder."""
    try:
        known = os.stat(path)
    except OSError:
        return None
    return [known.st_ino, known.st_dev, known.st_mode, known.st_uid, known.st_size,
            known.st_mtime_ns, known.st_ctime_ns]  # fmt: skip


def has_settled(state: State, before: float) -> bool:
    """Return whether nothing has changed since a while before that time."""
    latest = (before - SETTLED) * 1e9
    return state is None or max(state[-2:]) < latest


def user_home() -> str:
    """Return the home that programs take for ``~``: the user database's, not ``$HOME``."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")


def program(name: str) -> list[Any] | None:
    """Return what tells one program from another by this name, and who asks; None for a script."""
    path = shutil.which(name)
    try:
        with open(path or "", "rb") as file:
            if not file.read(4).startswith(_COMPILED):
                return None
        user = pwd.getpwuid(os.getuid())
    except (OSError, KeyError):
        return None
    assert path
    return [path, state_of(path), user.pw_uid, user.pw_name, user.pw_dir, socket.gethostname()]


def are_as_they_were(states: Mapping[str, Any]) -> bool:
    """Return whether files and folders have these states."""
    return all(state_of(path) == state for path, state in states.items())


def states_of(paths: Iterable[str], before: float) -> dict[str, State] | None:
    """Return the states of files and folders that were the same ``before``; None if one may not be."""
    found = {path: state_of(path) for path in paths}
    return found if all(has_settled(state, before) for state in found.values()) else None


def read(name: str) -> dict[str, Any]:
    """Return the notes of that name; none where there are none, others could have written them, or they
    are not as they were written."""
    try:
        with open(home() / name, "rb") as file:
            about = os.fstat(file.fileno())
            if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return {}
            head, _, text = file.read(MOST).partition(b"\n")
        value: dict[str, Any] = json.loads(text) if head == _head(text) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value


def write(name: str, value: Mapping[str, Any]) -> None:
    """Replace the notes of that name, or leave them where that fails."""
    text = json.dumps(value, separators=(",", ":")).encode()
    data = _head(text) + b"\n" + text
    if len(data) > MOST:
        return
    with suppress(OSError):
        fd, scratch = tempfile.mkstemp(prefix=f".{name}.", dir=make_home())
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.rename(scratch, Path(home(), name))
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)
            raise


def _head(text: bytes) -> bytes:
    return b"%s %08x" % (_HEAD, binascii.crc32(text))
