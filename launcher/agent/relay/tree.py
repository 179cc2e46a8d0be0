"""Trees of files on this host: snapshots of code made of hard links, and lists of outputs.

Slow imports are inside the functions that need them: a relay starts with every run, on every host.
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
    #: A path, its size in bytes, and its modification time in nanoseconds.
    Listed = Tuple[str, int, int]

#: How many sealed versions of one source a host keeps.
KEPT = 3
#: Bytes of a list of files in one message, about.
PART = 4 << 20
#: Bytes of a character in JSON at most, such as of one that is not UTF-8.
LONGEST_ESCAPE = 12


def walk(
    root: bytes,
    going_on: Callable[[], object] = lambda: None,
    unreadable: dict[str, str] | None = None,
) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Yield ``(relative path, os.DirEntry)`` of every file and link below ``root``.

    In the order of the paths as bytes, on every machine. ``going_on()`` is called again and again. A
    folder that cannot be read is noted in ``unreadable`` with the reason, and costs itself alone;
    without ``unreadable`` it raises OSError.
    """
    queue, found = [b""], []
    while queue:
        going_on()
        folder = queue.pop()
        prefix = folder + b"/" if folder else b""
        try:
            with os.scandir(root + b"/" + folder) as entries:
                for entry in entries:
                    path = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(path)
                    else:
                        found.append((path, entry))
        except OSError as error:
            if unreadable is None:
                raise
            unreadable[os.fsdecode(folder)] = str(error.strerror)
    for item in sorted(found, key=lambda item: item[0]):
        going_on()
        yield item


def fingerprint(root: bytes, visit: Visit = lambda path, entry: None) -> protocol.Fingerprint:
    """Return the :class:`protocol.Fingerprint` of a tree; call ``visit`` with every entry."""
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
    """Return the name of the newest sealed version below ``source``, or None."""
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
    """Make ``code`` a tree of hard links to a sealed version.

    Return False when that version is missing, or does not match its name because a file in it was
    changed: then it is removed and must be copied again.
    """
    sealed_tree = os.path.join(source, version)
    if not os.path.isdir(sealed_tree):
        return False
    link = _linker(code)
    try:
        same = fingerprint(os.fsencode(sealed_tree), link).hexdigest() == version
    except FileNotFoundError:
        same = False  # a newer run has just removed it
    if not same:
        remove(code)
        remove(sealed_tree)
        return False
    os.utime(sealed_tree)
    return True


def link_tree(source: str, target: str) -> bool:
    """Make ``target`` a tree of hard links to ``source``; return False when that is missing."""
    if not os.path.isdir(source):
        return False
    link = _linker(target)
    for path, entry in walk(os.fsencode(source)):
        link(path, entry)
    return True


def _linker(tree: str) -> Visit:
    """Empty ``tree``; return a function that links an entry of another tree into it."""
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
    """Name what rsync has copied into ``incoming`` after its fingerprint, and return that."""
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
    """Remove a tree, including read-only folders."""
    import shutil

    for folder, _, _ in os.walk(path):
        try:
            os.chmod(folder, 0o700)
        except OSError:
            pass
    shutil.rmtree(path, ignore_errors=True)


def listing(
    root: str,
    patterns: list[str] | None = None,
    going_on: Callable[[], object] = lambda: None,
    unreadable: dict[str, str] | None = None,
) -> list[Listed]:
    """List the files below ``root`` as ``(path, size, mtime_ns)``, without links and special files.

    ``unreadable`` gets what cannot be looked at, with the reason.

    ``patterns`` are paths or globs relative to ``root``; a folder means all that is below it. Paths
    that are not UTF-8 have surrogates. ``going_on()`` is called again and again.
    """
    found: list[Listed] = []
    if not os.path.isdir(root):
        return found
    unreadable = {} if unreadable is None else unreadable
    for path, entry in walk(os.fsencode(root), going_on, unreadable):
        name = os.fsdecode(path)
        if patterns is not None and not any(_matches(name, pattern) for pattern in patterns):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable[name] = str(error.strerror)
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((name, status.st_size, status.st_mtime_ns))
    return found


def in_parts(kinds: dict[str, list[Listed]]) -> tuple[list[dict[str, list[Listed]]], int]:
    """Return lists of files, by kind, in parts that fit into a message each, one at least; and how
    many files are left out, because they are more than a launcher takes."""
    parts: list[dict[str, list[Listed]]] = []
    files = characters = left_out = 0
    room = 0
    for kind, listed in kinds.items():
        for one in listed:
            files, characters = files + 1, characters + len(one[0])
            if files > protocol.MOST_FILES or characters > protocol.MOST_CHARACTERS:
                left_out += 1
                continue
            if room <= 0:
                parts.append({name: [] for name in kinds})
                room = PART
            room -= LONGEST_ESCAPE * len(one[0]) + 64  # and two numbers
            parts[-1][kind].append(one)
    return parts or [{name: [] for name in kinds}], left_out


def _matches(name: str, pattern: str) -> bool:
    import fnmatch

    pattern = posixpath.normpath(pattern)
    if pattern == ".":
        return True
    return name == pattern or name.startswith(pattern + "/") or fnmatch.fnmatchcase(name, pattern)
