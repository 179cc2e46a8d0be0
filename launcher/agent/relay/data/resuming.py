"""What is left of a copy that was interrupted, and what a power cut may have taken of it.

As long as a host has not booted since, all that was noted of a copy is there. After a reboot, a note may
have reached the disk before what it is about: then only that counts whose sum can be compared.
"""

from __future__ import annotations

import os

from ...base import plain_files
from ...base.manifest import SHA256, Entry
from ...host import machine
from .. import tree
from . import blocks, sums

#: Objects that were being read, now and before a reboot.
PARTS, BEFORE = "parts", "parts-before"
#: The boot in which a copy was brought, and what says that its folders cannot be written to.
_BOOT, _CLOSED = "boot", "closed"
_OF_A_COPY = ("sums", _BOOT, _CLOSED, sums.KEYED, blocks.TIMES)


def resume(place: str) -> None:
    """Let a copy go on in its folder. Doubt what is there, if this host has booted since that was
    brought. Raises OSError."""
    closed = os.path.join(place, _CLOSED)
    if os.path.exists(closed):
        for folder, _, _ in plain_files.walk(os.path.join(place, "files")):
            os.chmod(folder, 0o700)
        os.unlink(closed)
    now = machine.boot()
    path = os.path.join(place, _BOOT)
    try:
        with open(path) as file:
            then = file.read()
    except FileNotFoundError:
        then = ""
    if now and then == now:
        return
    blocks.doubt(place)
    parts, before = (os.path.join(place, name) for name in (PARTS, BEFORE))
    for name in os.listdir(parts) if os.path.isdir(parts) else ():
        os.makedirs(before, mode=0o700, exist_ok=True)
        os.replace(os.path.join(parts, name), os.path.join(before, name))
    with open(path + ".new", "w") as file:
        file.write(now)
    os.replace(path + ".new", path)


def close(place: str) -> None:
    """Let nobody write to the folders of a copy that is whole. Raises OSError."""
    with open(os.path.join(place, _CLOSED), "wb"):
        pass
    for folder, _, _ in plain_files.walk(os.path.join(place, "files")):
        os.chmod(folder, 0o555)


def take_part(place: str, entry: Entry, name: str) -> None:
    """Go on with a part of an object from before a reboot, if its sum will show what the power cut has
    taken; else begin again. Raises OSError."""
    old = os.path.join(place, BEFORE, name)
    if not os.path.exists(old):
        return
    has_md5 = sums.MD5.match(sums.tag_in(entry)) and not sums.is_keyed(place)
    if has_md5 or entry.sum.startswith(SHA256):
        os.replace(old, os.path.join(place, PARTS, name))
    else:
        os.unlink(old)


def forget(place: str) -> None:
    """Remove all that is of use to a copy alone. Raises OSError."""
    for name in (PARTS, BEFORE):
        tree.remove(os.path.join(place, name))
    for name in os.listdir(place):
        if name in _OF_A_COPY or name.startswith((blocks.NOTES, blocks.DOUBTED)):
            os.unlink(os.path.join(place, name))
