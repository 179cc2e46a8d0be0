"""Trees of files on this host: snapshots of code made of hard links, and lists of outputs.

What takes long to import is imported where it is needed: a relay starts with every run, on every
host.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from ..base import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Tuple

    Visit = Callable[[bytes, os.DirEntry[bytes]], None]
    #: A path, its size, and its time of change in nanoseconds.
    Listed = Tuple[str, int, int]

#: Sealed versions of one source that a host keeps, the newest ones.
KEPT = 3


def walk(
    root: bytes, going_on: Callable[[], object] = lambda: None
) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """``(relative path, os.DirEntry)`` of every file and link below ``root``, in order of path.

    The order is that of the paths as bytes, on every machine. ``going_on()`` is called all the time.
    """
    queue, found = [b""], []
    while queue:
        going_on()
        folder = queue.pop()
        prefix = folder + b"/" if folder else b""
        with os.scandir(root + b"/" + folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    queue.append(path)
                else:
                    found.append((path, entry))
    for item in sorted(found, key=lambda item: item[0]):
        going_on()
        yield item


def fingerprint(root: bytes, visit: Visit = lambda path, entry: None) -> protocol.Fingerprint:
    """The :class:`protocol.Fingerprint` of a tree; ``visit`` sees every entry on the way."""
    result = protocol.Fingerprint()
    for path, entry in walk(root):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            result.link(path, os.readlink(entry.path))
        else:
            executable = bool(status.st_mode & stat.S_IXUSR)
            result.file(path, status.st_size, status.st_mtime_ns, executable)
        visit(path, entry)
    return result


def sealed(source: str) -> str | None:
    """The newest sealed version below ``source``, as a name, or None."""
    try:
        names = [name for name in os.listdir(source) if not name.startswith("incoming-")]
    except OSError:
        return None
    return max(names, key=lambda name: _mtime(os.path.join(source, name)), default=None)


def _mtime(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def snapshot(source: str, version: str, code: str) -> bool:
    """Makes ``code`` a tree of hard links to a sealed version.

    Returns False when that version is not there, or is no longer what its name says (somebody wrote
    into it): then it is removed and has to come again.
    """
    sealed_tree = os.path.join(source, version)
    if not os.path.isdir(sealed_tree):
        return False
    link = _linker(code)
    try:
        same = fingerprint(os.fsencode(sealed_tree), link).hexdigest() == version
    except FileNotFoundError:
        same = False  # removed under our hands by a newer run
    if not same:
        remove(code)
        remove(sealed_tree)
        return False
    os.utime(sealed_tree)
    return True


def link_tree(source: str, target: str) -> bool:
    """Makes ``target`` a tree of hard links to another one; False when that is not there."""
    if not os.path.isdir(source):
        return False
    link = _linker(target)
    for path, entry in walk(os.fsencode(source)):
        link(path, entry)
    return True


def _linker(tree: str) -> Visit:
    """Empties ``tree``; returns what makes a link in it to an entry of another one."""
    if os.path.exists(tree):
        remove(tree)
    os.makedirs(tree)
    made = {b""}
    target = os.fsencode(tree)

    def link(path: bytes, entry: os.DirEntry[bytes]) -> None:
        folder = path.rpartition(b"/")[0]
        place = target + b"/" + path
        if folder not in made:
            os.makedirs(target + b"/" + folder, exist_ok=True)
            made.add(folder)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        else:
            _link_or_copy(entry.path, place)

    return link


def _link_or_copy(path: bytes, target: bytes) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        import shutil

        shutil.copy2(path, target, follow_symlinks=False)


def seal(source: str, incoming: str) -> str:
    """Gives what rsync brought into ``incoming`` the name of its fingerprint, which is returned."""
    tree = os.path.join(source, incoming)
    os.makedirs(tree, exist_ok=True)
    found = fingerprint(os.fsencode(tree))
    target = os.path.join(source, found.hexdigest())
    if os.path.isdir(target):
        remove(tree)
    else:
        os.rename(tree, target)
    os.utime(target)
    _forget_old(source, keep=found.hexdigest())
    return found.hexdigest()


def _forget_old(source: str, keep: str) -> None:
    names = [name for name in os.listdir(source) if not name.startswith("incoming-")]
    names.sort(key=lambda name: _mtime(os.path.join(source, name)), reverse=True)
    for name in names[KEPT:]:
        if name != keep:
            remove(os.path.join(source, name))


def remove(path: str) -> None:
    """Removes a tree, also one with folders that may not be written."""
    import shutil

    for folder, _, _ in os.walk(path):
        try:
            os.chmod(folder, 0o700)
        except OSError:
            pass
    shutil.rmtree(path, ignore_errors=True)


def listing(
    root: str, patterns: list[str] | None = None, going_on: Callable[[], object] = lambda: None
) -> list[Listed]:
    """The files below ``root`` as ``(path, size, mtime_ns)``, links and special files left out.

    ``patterns`` are paths or globs relative to ``root``; a folder stands for all below it. Paths
    that are not text are passed on with surrogates. ``going_on()`` is called all the time.
    """
    found: list[Listed] = []
    if not os.path.isdir(root):
        return found
    for path, entry in walk(os.fsencode(root), going_on):
        name = os.fsdecode(path)
        if patterns is not None and not any(_matches(name, pattern) for pattern in patterns):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((name, status.st_size, status.st_mtime_ns))
    return found


def _matches(name: str, pattern: str) -> bool:
    import fnmatch

    pattern = posixpath.normpath(pattern)
    if pattern == ".":
        return True
    return name == pattern or name.startswith(pattern + "/") or fnmatch.fnmatchcase(name, pattern)
