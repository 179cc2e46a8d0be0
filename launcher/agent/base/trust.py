"""Who could change a folder: nothing is executed from one that other users may write to.

The launcher also sends this file as text, to be executed before anything in a host's folder is.
"""

from __future__ import annotations

import errno
import os
import stat


def weakness(path: str, sticky_is_enough: bool = False) -> str | None:
    """Return why other users could change ``path`` or put another one in its place, or None.

    Each folder and link on the way has to belong to root or to this user, and nobody else may write
    to it. The sticky bit is enough on the way, as in /tmp, but not for ``path`` itself. What cannot
    be reached is no weakness: nothing is executed there.
    """
    here, left, links = "/", path.split("/")[::-1], 0
    found = _weakness_of(here, sticky_is_enough or any(left))
    while left and not found:
        name = left.pop()
        if name == "..":
            here = os.path.dirname(here)
        elif name not in ("", "."):
            entry = os.path.join(here, name)
            try:
                found = _weakness_of(entry, sticky_is_enough or any(left))
                target = os.readlink(entry) if os.path.islink(entry) else None
            except OSError:
                return None
            if target is None:
                here = entry
                continue
            left += target.split("/")[::-1]
            here, links = "/" if target.startswith("/") else here, links + 1
            if links > 40:
                return "%s is a loop of links" % path
    return found


def _weakness_of(entry: str, sticky_is_enough: bool) -> str | None:
    about = os.lstat(entry)
    if about.st_uid not in (0, os.geteuid()):
        return "%s belongs to %s" % (entry, _name(about.st_uid))
    if stat.S_ISLNK(about.st_mode) or (about.st_mode & stat.S_ISVTX and sticky_is_enough):
        return None
    for bit, who in ((0o002, "everybody"), (0o020, "its group")):
        if about.st_mode & bit:
            return "%s may be written to by %s" % (entry, who)
    return None


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return "uid %d" % uid


def make(path: str) -> None:
    """Make a folder of our own, and those above it. Raises OSError, also where other users could
    change one of them."""
    parts = path.split("/")
    for end in range(2, len(parts) + 1):
        place = "/".join(parts[:end])
        if not os.path.lexists(place):
            try:
                os.mkdir(place, 0o700)
            except FileExistsError:
                pass  # somebody was faster: it is looked at next
        found = weakness(place, sticky_is_enough=end < len(parts))
        if found:
            raise OSError(errno.EPERM, found)
