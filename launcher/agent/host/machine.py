"""Which machine this is, and a folder of its own where several machines share a home.

A home on NFS is the same on all hosts. The first one that works in launcher's folder there claims it
by a note; every other one has a folder of its own below it, so that nothing of two hosts ever has the
same path.
"""

from __future__ import annotations

import os

from ..base import lean
from ..base.journal import forget
from ..base.lean import socket
from ..base.protocol import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

    #: Texts that tell one machine from another: see :func:`identity`.
    Identity = Dict[str, str]

#: The note in launcher's folder that says whose it is, and where the folders of others are.
NOTE, OTHERS = "machine.json", "machines"


def identity() -> Identity:
    """Return what tells this machine from others; a text is empty where the host has none.

    ``boot`` and ``space`` are the kernel's, and change with every boot: a container has a space of
    its own. ``name`` and ``id`` stay, but machines made from one image may share the id.
    """
    return {
        "boot": boot(),
        "space": _link("/proc/self/ns/pid"),
        "id": _line("/etc/machine-id"),
        "name": socket.gethostname(),
    }


def boot() -> str:
    """Return what changes with every boot; "" where the kernel does not say."""
    return _line("/proc/sys/kernel/random/boot_id")


def is_same(one: Identity, other: Identity) -> bool:
    """Return whether two identities, maybe of different times, are of one machine."""

    def equal(*keys: str) -> bool:
        return all(one.get(key) and one.get(key) == other.get(key) for key in keys)

    return equal("boot", "space") or (equal("name") and one.get("id") == other.get("id"))


def fingerprint() -> str:
    """Return a text that is equal for two hosts if they are one machine, under whatever names."""
    me = identity()
    is_certain = me["boot"] and me["space"]
    parts = [me["boot"], me["space"]] if is_certain else [me["id"], me["name"]]
    parts.append(os.environ.get("LAUNCHER_LOCK_SCOPE", ""))  # of a sandbox's host
    text = "\n".join(parts)
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def own_root(base: str) -> str:
    """Return the folder where this machine keeps everything: ``base``, unless another one claimed it.

    Raises OSError, also where other users could change the folder.
    """
    os.makedirs(base, mode=0o700, exist_ok=True)
    note, me = os.path.join(base, NOTE), identity()
    owner = _read(note) or _claim(note, me)
    if not is_same(owner, me):
        return _own_folder(base, me)
    if owner != me:
        _renew(note, me)
    return base


def _own_folder(base: str, me: Identity) -> str:
    from ..base import trust

    mark = blake2b(("%(id)s\n%(name)s" % me).encode("utf-8", "replace"), digest_size=4).hexdigest()
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in me["name"][:40])
    root = os.path.join(base, OTHERS, "%s-%s" % (name, mark))
    for place in (root, os.path.join(root, "runs"), os.path.join(root, "code")):
        trust.make(place)
    try:  # the agents are the same for all
        os.symlink(os.path.join("..", "..", "agent"), os.path.join(root, "agent"))
    except FileExistsError:
        pass
    return root


def _claim(note: str, me: Identity) -> Identity:
    """Write the note unless another machine is faster; return whose the folder is."""
    mine = _written(note, me)
    if mine is None:
        return me
    try:
        os.link(mine, note)
    except FileExistsError:
        return _read(note) or {}
    except OSError:  # a file system without hard links
        pass
    finally:
        os.unlink(mine)
    return me


def _renew(note: str, me: Identity) -> None:
    """Write the note again, as a boot or a new name makes it."""
    mine = _written(note, me)
    if mine is not None:
        os.rename(mine, note)


def _written(note: str, me: Identity) -> str | None:
    """Write a whole file beside the note and return its path; None on a full disk."""
    path = "%s.%s" % (note, os.urandom(8).hex())
    try:
        with open(path, "w", opener=_private) as file:
            file.write(lean.dumps(me))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        forget(path)
        return None
    return path


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(note: str) -> Identity | None:
    try:
        with open(note) as file:
            known = lean.loads(file.read())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _line(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(200).strip()
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
