"""Trees of files on this host: snapshots of code made of hard links, and lists of outputs.

Slow imports are inside the functions that need them: a relay starts with every run, on every host.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from ..base import far_paths, plain_files, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Tuple

    Visit = Callable[[bytes, os.DirEntry[bytes]], None]
    #: A path, its size in bytes, and its modification time in nanoseconds.
    Listed = Tuple[str, int, int]

#: How many sealed versions of one source a host keeps.
KEPT = 3
#: Beside a run's copy of the code: what it held at first, ``size time path`` with a NUL behind each.
SNAPSHOT = "code.list"
#: Bytes of a list of files in one message, about: a launcher needs ten times that to read it.
PART = 1 << 18
#: The latest time of a file that is told exactly: in the year 2262. Some file systems have later ones.
LATEST = (1 << 63) - 1
#: Bytes of a character in JSON at most, such as of one that is not UTF-8.
LONGEST_ESCAPE = 12
#: Bytes of holes that make a file a sparse one. Copying those as such takes rsync half as long again.
HOLES = 1 << 16


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


def grain(folder: str) -> int:
    """Return the nanoseconds that the times of files in a folder are multiples of: 1, or more on file
    systems that keep whole seconds, or every second one."""
    path, wanted = os.path.join(folder, "incoming-grain-%d" % os.getpid()), 1000000001987654321
    with open(path, "w"):
        pass
    try:
        os.utime(path, ns=(wanted, wanted))
        kept = os.stat(path).st_mtime_ns
    finally:
        os.unlink(path)
    units = (1, 100, 1000, 10**6, 10**7, 10**9, 2 * 10**9)
    return next((unit for unit in units if wanted // unit * unit == kept), 1)


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
    return max(names, key=lambda name: mtime(os.path.join(source, name)), default=None)


def mtime(path: str) -> float:
    """Return when a file or folder was changed last, in seconds since the epoch; 0 without one."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def snapshot(source: str, version: str, code: str) -> bool:
    """Make ``code`` a tree of hard links to a sealed version.

    Return False when that version is missing, or does not match its name because a file in it was
    changed: then it is removed and must be copied again.
    """
    sealed_tree, written = _sealed_as(source, version)
    if not os.path.isdir(sealed_tree):
        return False
    link, listed = _linker(code)
    try:
        same = fingerprint(os.fsencode(sealed_tree), link).hexdigest() == written
    except FileNotFoundError:
        same = False  # a newer run has just removed it
    if not same:
        remove(code)
        remove(sealed_tree)
        return False
    os.utime(sealed_tree)
    _write_list(code, listed)
    return True


def _sealed_as(source: str, version: str) -> Tuple[str, str]:
    """Return the folder of a version, and the fingerprint that it has here.

    Where times are coarse, that is another one, and stands in the folder's name behind the version.
    """
    for name in os.listdir(source) if os.path.isdir(source) else ():
        if name.startswith(version + "-"):
            return os.path.join(source, name), name[len(version) + 1 :]
    return os.path.join(source, version), version


def link_tree(source: str, target: str, known: Mapping[str, Tuple[int, int]] | None) -> bool:
    """Make ``target`` a tree of hard links to ``source``; return False when that is missing.

    Of ``known``, a list of sizes and times, only what has not changed since is linked: a run's copy of
    the code may hold what that run wrote.
    """
    if not os.path.isdir(source):
        return False
    link, listed = _linker(target)
    for path, entry in walk(os.fsencode(source)):
        if known is None or known.get(os.fsdecode(path)) == _state(entry):
            link(path, entry)
    _write_list(target, listed)
    return True


def link_all(source: str, target: str, but: set[bytes]) -> None:
    """Add hard links to all files of a tree, ``but`` some, to the folder ``target``, which is empty."""
    link, _ = _linker(target)
    for path, entry in walk(os.fsencode(source)):
        if path not in but:
            link(path, entry)


def _state(entry: os.DirEntry[bytes]) -> Tuple[int, int]:
    """Return size and time of a file; those of a link mean nothing."""
    if entry.is_symlink():
        return (-1, -1)
    status = entry.stat(follow_symlinks=False)
    return (status.st_size, status.st_mtime_ns)


def _write_list(code: str, listed: list[bytes]) -> None:
    with open(os.path.join(os.path.dirname(code), SNAPSHOT), "wb") as file:
        file.write(b"".join(listed))


def _linker(tree: str) -> Tuple[Visit, list[bytes]]:
    """Empty ``tree``; return a function that links an entry of another tree into it, and the list that
    it makes of them. An empty folder stays the same one: a Python may have started in it."""
    if os.path.exists(tree) and os.listdir(tree):
        remove(tree)
    os.makedirs(tree, exist_ok=True)
    made = {b""}
    target = os.fsencode(tree)
    listed: list[bytes] = []

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
        listed.append(b"%d %d %s\0" % (*_state(entry), path))

    return link, listed


def _link_or_copy(path: bytes, target: bytes) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        import shutil

        shutil.copy2(path, target, follow_symlinks=False)


def seal(source: str, incoming: str, version: str = "", coarse: str = "") -> str:
    """Name what rsync has copied into ``incoming`` after its fingerprint, and return that.

    ``version`` is the name for a tree with the fingerprint ``coarse``: that of the source, with the
    times that this file system keeps.
    """
    tree = os.path.join(source, incoming)
    os.makedirs(tree, exist_ok=True)
    name = fingerprint(os.fsencode(tree)).hexdigest()
    if coarse and name == coarse:
        name = "%s-%s" % (version, coarse)
    target = os.path.join(source, name)
    try:
        os.rename(tree, target)
    except OSError:
        if not os.path.isdir(target):
            raise
        remove(tree)  # it is there: runs that start together seal the same
    os.utime(target)
    _forget_old(source, keep=name)
    return name


def _forget_old(source: str, keep: str) -> None:
    """Remove all versions but ``keep`` and the newest others. First out of the way: a folder whose files
    go has just been changed, and would be the newest one for who else looks."""

    def age(name: str) -> Tuple[bool, float]:
        return name == keep, mtime(os.path.join(source, name))

    names = [name for name in os.listdir(source) if not name.startswith("incoming-")]
    for name in sorted(names, key=age, reverse=True)[KEPT:]:
        away = os.path.join(source, "incoming-%s" % os.urandom(8).hex())
        try:
            os.rename(os.path.join(source, name), away)
        except OSError:
            continue  # somebody else does it
        remove(away)


def remove(path: str) -> None:
    """Remove a tree, including read-only folders, as far as that is possible."""
    if os.path.islink(path) or not os.path.isdir(path):
        return
    for folder, _, _ in plain_files.walk(path):
        try:
            os.chmod(folder, 0o700)
        except OSError:
            pass
    plain_files.remove_folder(path)


class Noted:
    """What lists of files leave out or say besides, by path."""

    def __init__(self) -> None:
        self.unreadable: dict[str, str] = {}  # and the reason
        self.links: dict[str, str] = {}  # to what is listed, too: and its path
        self.left_out: dict[str, str] = {}  # other links and special files: and the reason
        self.sparse: set[str] = set()  # files with holes
        self._inodes: dict[Tuple[int, int], list[str]] = {}  # of files that have several names

    def file(self, name: str, status: os.stat_result) -> None:
        """Note what is special about a file that is listed."""
        if status.st_size - status.st_blocks * 512 >= HOLES:
            self.sparse.add(name)
        if status.st_nlink > 1:
            self._inodes.setdefault((status.st_dev, status.st_ino), []).append(name)

    @property
    def same(self) -> list[Tuple[str, str]]:
        """Each further name of a file that has several in a list, with its first one."""
        return [(other, names[0]) for names in self._inodes.values() for other in names[1:]]


def listing(
    root: str,
    patterns: list[str] | None = None,
    going_on: Callable[[], object] = lambda: None,
    noted: Noted | None = None,
) -> list[Listed]:
    """List the files below ``root`` as ``(path, size, mtime_ns)``; ``noted`` gets what there is besides.

    ``patterns`` are paths or globs relative to ``root``; a folder means all that is below it. Paths
    that are not UTF-8 have surrogates. ``going_on()`` is called again and again.
    """
    found: list[Listed] = []
    noted = noted or Noted()
    if not _is_folder(root, noted.left_out):
        return found
    for path, entry in walk(os.fsencode(root), going_on, noted.unreadable):
        name = os.fsdecode(path)
        wanted = patterns is None or any(matches(name, pattern) for pattern in patterns)
        if not wanted or _is_trackers(name, entry):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            noted.unreadable[name] = str(error.strerror)
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((name, status.st_size, min(status.st_mtime_ns, LATEST)))
            noted.file(name, status)
        elif stat.S_ISLNK(status.st_mode):
            there, why = target(root, name)
            if why:
                noted.left_out[name] = why
            else:
                noted.links[name] = there
        else:
            noted.left_out[name] = "it is a pipe, a socket or a device"
    return found


def _is_folder(root: str, left_out: dict[str, str]) -> bool:
    """Return whether there is such a folder. A link is none: it may lead to the whole disk."""
    if os.path.isdir(root) and not os.path.islink(root):
        return True
    if os.path.lexists(root):
        left_out["the folder %s" % os.path.basename(root)] = "the run made something else of it"
    return False


def matching(files: list[Listed], patterns: list[str], wanted: bool) -> list[Listed]:
    """Return the files that match any of the patterns; those that match none if not ``wanted``."""
    return [one for one in files if any(matches(one[0], pattern) for pattern in patterns) is wanted]


def in_parts(kinds: dict[str, list[Any]]) -> tuple[list[dict[str, list[Any]]], int]:
    """Return lists of files and links, by kind, in parts that fit into a message each, one at least;
    and how many are left out, because they are more than a launcher takes."""
    parts: list[dict[str, list[Any]]] = []
    count = characters = unlisted = room = 0
    for kind, listed in kinds.items():
        for one in listed:
            length = sum(len(part) for part in one if isinstance(part, str))
            count, characters = count + 1, characters + length
            if count > protocol.MOST_FILES or characters > protocol.MOST_CHARACTERS:
                unlisted += 1
                continue
            if room <= 0:
                parts.append({name: [] for name in kinds})
                room = PART
            room -= LONGEST_ESCAPE * length + 64  # and two numbers
            parts[-1][kind].append(one)
    return parts or [{name: [] for name in kinds}], unlisted


def _is_trackers(name: str, entry: os.DirEntry[bytes]) -> bool:
    """Return whether it is a link of W&B's to a log of its own, in the user's cache."""
    return name[-20:] == "/logs/debug-core.log" and "wandb/" in name and entry.is_symlink()


def target(root: str, name: str) -> tuple[str, str]:
    """Return the path below ``root`` that a link leads to, or why it leads to none."""
    try:
        text = os.readlink(os.path.join(root, name))
    except OSError as error:
        return "", str(error.strerror)
    top = os.path.realpath(root)
    try:
        real = far_paths.real(os.path.normpath(os.path.join(root, os.path.dirname(name), text)))
    except far_paths.Silent:
        return "", "it is a link to %s, which does not answer" % text
    if not real:
        return "", "it is a link to %s, which does not exist" % text
    if not real.startswith(top + "/"):
        return "", "it is a link to %s, outside of the outputs" % text
    return os.path.relpath(real, top), ""


def matches(name: str, pattern: str) -> bool:
    """Return whether a path is what a pattern names: a file, all in a folder, or a glob."""
    import fnmatch

    pattern = posixpath.normpath(pattern)
    if pattern == ".":
        return True
    if name == pattern or name.startswith(pattern + "/") or fnmatch.fnmatchcase(name, pattern):
        return True
    return pattern[:3] == "**/" and matches(name, pattern[3:])


def disk_use(path: str, seen: set[tuple[int, int]], going_on: Callable[[], object]) -> int:
    """Return the bytes that a folder takes on disk, without files that were ``seen`` by another name."""
    total = 0
    for base, folders, files in plain_files.walk(path):
        going_on()
        for name in (*folders, *files):
            try:
                status = os.lstat(os.path.join(base, name))
            except OSError:
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                inode = (status.st_dev, status.st_ino)
                if inode in seen:
                    continue
                seen.add(inode)
            total += status.st_blocks * 512
    return total
