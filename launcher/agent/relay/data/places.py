"""Where versions of data sets lie: in launcher's folder, or in one that the users of this host share.

::

    FOLDER/                      of root, who makes it; all users who may enter it share their sets
    FOLDER/<user>.<mark>/        of one user; the mark is that of a machine and of launcher's folder
    FOLDER/<user>.<mark>/<version>/             where the others may read it
    FOLDER/<user>.<mark>/incoming-<version>/    where they may not

In launcher's own folder, ``data/<version>`` is then a link to it: everything else is as without.
"""

from __future__ import annotations

import itertools
import os
import pwd
import stat

from ...base import plain_files, trust
from ...base.protocol import Refused, blake2b
from ...host import machine
from .. import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Most folders of others that are looked into.
MOST = 1000


def own_folder(shared: str, root: str) -> str:
    """Return this user's folder in a shared one, which is made if it is missing. Raises Refused,
    OSError."""
    shared = os.path.realpath(shared)
    if not os.path.isdir(shared):
        raise Refused("no-data-folder", "%s is no folder there" % shared)
    found = trust.weakness(shared, sticky_is_enough=True)
    if found:
        raise Refused("no-data-folder", found)
    place = os.path.join(shared, _own_name(root))
    try:
        os.mkdir(place, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise Refused("no-data-folder", "%s: %s" % (place, error.strerror))
    about = os.lstat(place)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise Refused("no-data-folder", "%s belongs to %s" % (place, user_name(about.st_uid)))
    _require_own(place)  # one's own folder may have been moved here by who may write to it
    os.chmod(place, 0o755)  # who may enter the shared folder is decided there
    return place


def _require_own(place: str) -> None:
    found = trust.weakness(place)
    if found:
        raise Refused("no-data-folder", found)


def _own_name(root: str) -> str:
    me = machine.identity()
    about = "%s\n%s\n%s" % (me["id"], me["name"], os.path.realpath(root))
    mark = blake2b(about.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return "%s.%s" % (user_name(os.geteuid()), mark)


def user_name(uid: int) -> str:
    """Return what a user is called here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "uid %d" % uid


def others(shared: str, root: str) -> Iterator[str]:
    """Yield the names of the folders of others in a shared one; none of one that cannot be read."""
    mine = _own_name(root)
    try:
        with os.scandir(shared) as there:
            names = [one.name for one in itertools.islice(there, MOST)]
    except OSError:
        return
    for name in names:
        if name != mine:
            yield name


def begin(place: str, home: str) -> None:
    """Make the folder of a copy. A ``home`` in a shared folder holds it; ``place`` is a link then."""
    if os.path.islink(place) and not os.path.isdir(place):
        os.unlink(place)  # somebody has removed what it led to
    if home and not os.path.lexists(place):
        there = os.path.join(home, os.path.basename(place))
        os.makedirs(there, mode=0o700, exist_ok=True)
        os.symlink(there, place)
    os.makedirs(os.path.join(place, "files"), mode=0o700, exist_ok=True)


def adopt(place: str, home: str) -> bool:
    """Return whether a version is in a shared folder already, from where it is used from now on: what
    had linked it was interrupted. Raises Refused."""
    there = os.path.join(home, os.path.basename(place)) if home else ""
    if not there or not os.path.isdir(there):
        return False
    _require_own(os.path.join(there, "files"))
    if os.path.islink(place):
        os.unlink(place)
    os.symlink(there, place)
    show(place)
    return True


def move(old: str, new: str) -> None:
    """Give a version or a copy another name in its folder, at once; others may not read it until it is
    shown. Raises OSError."""
    there = os.path.realpath(old)
    if os.path.islink(old):
        moved = os.path.join(os.path.dirname(there), os.path.basename(new))
        os.chmod(there, 0o700)
        os.rename(there, moved)
    if os.path.islink(new):
        os.unlink(new)  # what it led to is gone
    if not os.path.islink(old):
        os.rename(old, new)
        return
    os.symlink(moved, new)
    os.unlink(old)


def show(place: str) -> None:
    """Let others read a version, where it is in a shared folder."""
    if os.path.islink(place):
        os.chmod(os.path.realpath(place), 0o755)


def delete(place: str) -> None:
    """Remove a version or a copy with all that it holds."""
    if os.path.islink(place):
        tree.remove(os.path.realpath(place))
        os.unlink(place)
    else:
        tree.remove(place)


def used(place: str) -> float:
    """Return when a version was used last, in seconds since the epoch."""
    return tree.mtime(os.path.realpath(place))


def device(place: str) -> int:
    """Return the file system that a version is on; -1 if it is gone."""
    try:
        return os.stat(place).st_dev
    except OSError:
        return -1


def disk_use(data: str, seen: set[tuple[int, int]], going_on: Callable[[], object]) -> int:
    """Return the bytes that all versions and copies take."""
    total = tree.disk_use(data, seen, going_on)
    for name in os.listdir(data) if os.path.isdir(data) else ():
        place = os.path.join(data, name)
        if os.path.islink(place):
            total += tree.disk_use(os.path.realpath(place), seen, going_on)
    return total


def taken(place: str) -> int:
    """Return the room that a copy alone takes on the disk: its files may have holes, or be those of
    another version."""
    total = 0
    for base, _, names in plain_files.walk(place):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            if status.st_nlink == 1:
                total += min(status.st_size, status.st_blocks * 512)
    return total


def size(place: str) -> int:
    """Return the bytes of all files of a version or a copy."""
    total = 0
    for base, _, names in plain_files.walk(place):
        for name in names:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except OSError:
                continue
    return total
