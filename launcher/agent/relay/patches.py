"""Makes a version of the code of another one that is here, and of files that came with a request."""

from __future__ import annotations

import os
import stat

from ..base import plain_files
from ..base.protocol import Refused
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message

#: Files and links of a version that are listed at most.
MOST = 1000


def listed(version: str | None) -> Message | None:
    """Return what a version holds: ``(path, size, time, mode)`` of its files, and its links; None where
    these are many, a time does not fit into a message, or the version is being removed. No version
    holds nothing."""
    files: list[tuple[str, int, int, int]] = []
    links: list[tuple[str, str]] = []
    try:
        for path, entry in tree.walk(os.fsencode(version)) if version else ():
            status, name = entry.stat(follow_symlinks=False), os.fsdecode(path)
            if len(files) + len(links) == MOST or status.st_mtime_ns > tree.LATEST:
                return None
            if stat.S_ISLNK(status.st_mode):
                links.append((name, os.fsdecode(os.readlink(entry.path))))
            else:
                mode = stat.S_IMODE(status.st_mode)
                files.append((name, status.st_size, status.st_mtime_ns, mode))
    except OSError:
        return None
    return {"files": files, "links": links}


def apply(source: str, incoming: str, patch: Message) -> None:
    """Make ``incoming``, a folder of ``source``, a tree of links to the version ``base`` without what is
    ``gone``, and with these files and links. If that fails, nothing is left of it."""
    target = os.path.join(source, incoming)
    tree.remove(target)
    try:
        os.makedirs(target)
        if patch["base"]:
            gone = {os.fsencode(path) for path in patch["gone"]}
            tree.link_all(os.path.join(source, patch["base"]), target, gone)
        start, content = 0, memoryview(patch.get("payload", b""))
        for path, size, mtime_ns, mode in patch["files"]:
            if start + size > len(content):
                raise Refused("bad-request", "the content of %s is not there" % path)
            _write(_place(target, path), content[start : start + size], mtime_ns, mode)
            start += size
        for path, leads_to in patch["links"]:
            os.symlink(os.fsencode(leads_to), _place(target, path))
    except BaseException:
        tree.remove(target)
        raise


def _place(target: str, path: str) -> bytes:
    """Return where a file goes, in a folder that is there."""
    name = os.fsencode(path)
    if not plain_files.is_inside(name):
        raise Refused("bad-request", "not a file of the code: %s" % path)
    place = os.path.join(os.fsencode(target), name)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    return place


def _write(place: bytes, content: memoryview, mtime_ns: int, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags, 0o600), "wb", 0) as file:
        while content:
            content = content[file.write(content) :]
        os.fchmod(file.fileno(), mode)
        os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
