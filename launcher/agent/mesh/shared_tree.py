"""The shared folders of a run on this host: what has changed in them, and changes of other hosts.

A file is whole when no process of this host has it open for writing, by which alone it is sent; what
arrives is written elsewhere and renamed, so nobody reads half a file.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import os
import shutil
import stat
import time

from ..base import received

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Dict, List, Tuple

    #: ``["file", size, time, mode]``, ``["link", target]`` or ``["folder"]``; times in nanoseconds.
    State = List[Any]
    Known = Dict[str, State]

FILE, LINK, FOLDER = "file", "link", "folder"
#: Seconds for which a file has not changed before it counts as whole where the kernel cannot tell.
SETTLED = 2.0
#: Seconds that a file's time has to be past: a change in the same tick of the clock shows nowhere.
TICK = 0.02
#: Longest path, in characters.
LONGEST = 4096


class SharedTree:
    """Folders below ``base``, which is the run's folder. ``known`` is what the other hosts have been
    told, or have told us, by path."""

    def __init__(self, base: str, folders: Iterable[str], incoming: str) -> None:
        self.known: Known = {}
        self._base, self._folders = base, list(folders)
        self._incoming = os.path.join(base, incoming)
        self._count = 0
        shutil.rmtree(self._incoming, ignore_errors=True)
        os.makedirs(self._incoming, mode=0o700)
        for folder in self._folders:
            os.makedirs(os.path.join(base, folder), exist_ok=True)

    # -- what happens here

    def changes(self, last: bool = False) -> List[str]:
        """Return the paths that have changed since the last look, in the order in which they were
        written; what is not whole yet is not among them. Folders come first, and what is gone last.

        At the ``last`` look, no process of the run is left: everything is whole.
        """
        seen: Known = {}
        closed: List[str] = []
        for folder in self._folders:
            self._list(folder, seen, closed)
        changed = [path for path, state in seen.items() if self.known.get(path) != state]
        changed = [p for p in changed if last or seen[p][0] != FILE or self._is_whole(p, seen[p])]
        gone = [
            path
            for path in self.known
            if path not in seen and not any(path.startswith(one + "/") for one in closed)
        ]
        changed.sort(key=lambda path: _order(path, seen[path]))
        for path in changed:
            self.known[path] = seen[path]
        for path in gone:
            del self.known[path]
        return changed + sorted(gone, reverse=True)

    def _list(self, folder: str, seen: Known, closed: List[str]) -> None:
        place = os.path.join(self._base, folder)
        if os.path.islink(place):
            return
        below = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    path = folder + "/" + entry.name
                    state = self._state(path, entry.stat(follow_symlinks=False))
                    if state is not None:
                        seen[path] = state
                        if state[0] == FOLDER:
                            below.append(path)
        except FileNotFoundError:
            if os.path.isdir(place):  # a file was removed meanwhile: what follows was not seen
                closed.append(folder)
        except OSError:
            closed.append(folder)
        for path in below:
            self._list(path, seen, closed)

    def here(self, path: str) -> State | None:
        """Return what there is at a path, whoever knows it."""
        try:
            return self._state(path, os.lstat(os.path.join(self._base, path)))
        except OSError:
            return None

    def _state(self, path: str, status: os.stat_result) -> State | None:
        """Return what there is at a path; None for what cannot be shared."""
        if stat.S_ISREG(status.st_mode):
            return [FILE, status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode)]
        if stat.S_ISDIR(status.st_mode):
            return [FOLDER]
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(os.path.join(self._base, path))
            return [LINK, target] if self._stays(path, target) else None
        return None

    def _is_whole(self, path: str, state: State) -> bool:
        """Return whether a file is whole: no process has it open for writing."""
        past = time.time() - state[2] / 1e9
        if 0 <= past < TICK:
            return False
        written = self._is_written(path)
        return not 0 <= past < SETTLED if written is None else not written

    def is_at_rest(self, path: str) -> bool:
        """Return whether no process is known to have a file open for writing."""
        return not self._is_written(path)

    def _is_written(self, path: str) -> bool | None:
        try:
            file = self.opened(path)
        except OSError:
            return True
        try:
            return is_written(file)
        finally:
            os.close(file)

    def opened(self, path: str) -> int:
        """Return a descriptor of a file. Raises OSError."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(os.path.join(self._base, path), flags)

    def is_as_told(self, path: str) -> bool:
        """Return whether a path is as the other hosts know it: no process here has changed it."""
        return self.here(path) == self.known.get(path)

    # -- what other hosts send

    def accepts(self, path: object) -> bool:
        """Return whether a path that another host names is in a shared folder."""
        if not isinstance(path, str) or len(path) > LONGEST or not _is_text(path):
            return False
        parts = path.split("/")
        inside = any(path.startswith(folder + "/") for folder in self._folders)
        return inside and not {"", ".", ".."}.intersection(parts)

    def incoming(self) -> Tuple[str, int]:
        """Return the name and a descriptor of a new file for what arrives. Raises OSError."""
        self._count += 1
        name = os.path.join(self._incoming, str(self._count))
        return name, os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def equals(self, path: str, name: str) -> bool:
        """Return whether a file that has arrived has the contents of the one that is there."""
        try:
            return filecmp.cmp(os.path.join(self._base, path), name, shallow=False)
        except OSError:
            return False

    def put(self, path: str, state: State, name: str = "") -> None:
        """Make a path what another host says; ``name`` is the file that arrived. Raises OSError."""
        whole = os.path.join(self._base, path)
        self._make_way(path, state[0])
        if state[0] == FOLDER:
            os.makedirs(whole, exist_ok=True)
        elif state[0] == LINK:
            if not self._stays(path, state[1]):
                raise OSError(errno.EPERM, "the link leads out of the shared folder")
            self._count += 1
            link = os.path.join(self._incoming, str(self._count))
            os.symlink(state[1], link)
            os.replace(link, whole)
        else:
            os.chmod(name, state[3] & 0o777 | 0o600)
            os.utime(name, ns=(state[2], state[2]))
            os.replace(name, whole)
        now = self.here(path)
        if now is not None:
            self.known[path] = now
            if state[0] == FILE:
                received.note(self._base, path, now[1], now[2])

    def remove(self, path: str) -> None:
        """Remove what another host has removed. Raises OSError."""
        self.known.pop(path, None)
        whole = os.path.join(self._base, path)
        self._require_way(path)
        try:
            if os.path.isdir(whole) and not os.path.islink(whole):
                os.rmdir(whole)  # not with what a process here has put there meanwhile
            else:
                os.unlink(whole)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise

    def _make_way(self, path: str, kind: str) -> None:
        """Make the folders of a path; remove what is of another kind."""
        self._require_way(path)
        whole = os.path.join(self._base, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        is_folder = os.path.isdir(whole) and not os.path.islink(whole)
        if is_folder and kind != FOLDER:
            os.rmdir(whole)
        elif kind == FOLDER and not is_folder and os.path.lexists(whole):
            os.unlink(whole)

    def _require_way(self, path: str) -> None:
        """Raise OSError where a folder on the way to a path is a link: it may lead anywhere."""
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            if os.path.islink(os.path.join(self._base, *parts[:count])):
                raise OSError(errno.ELOOP, "a folder on the way is a link")

    def _stays(self, path: str, target: object) -> bool:
        """Return whether a link at a path, with this target, leads into the same shared folder."""
        if not isinstance(target, str) or target.startswith("/") or not _is_text(target):
            return False
        leads = os.path.normpath(os.path.join(os.path.dirname(path), target))
        folder = next(one for one in self._folders if path.startswith(one + "/"))
        return leads.startswith(folder + "/")

    def close(self) -> None:
        """Remove what has not arrived whole."""
        shutil.rmtree(self._incoming, ignore_errors=True)


def is_written(file: int) -> bool | None:
    """Return whether any process of this host has a file open for writing, by asking the kernel for a
    lease on it; None where the file system or the file's owner allows none."""
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False


def _order(path: str, state: State) -> Tuple[int, int, str]:
    if state[0] == FOLDER:
        return (0, 0, path)
    return (1, state[2], path) if state[0] == FILE else (2, 0, path)  # links lead to files


def _is_text(path: str) -> bool:
    return "\0" not in path
