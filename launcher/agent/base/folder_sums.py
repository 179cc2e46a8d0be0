"""Read a folder as a data set: the sum of every file, and the manifest that they make.

A file is read once, and again when its size, its inode, or one of its times has changed: whoever
changes content and keeps all of these is not noticed. What changed within two seconds of being read is
read again the next time, since a later change might have the same time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time

from . import manifest
from .manifest import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import IO, BinaryIO, Tuple

    #: What is known of a file that was read: its sum, and its state when it had that.
    Summed = Tuple[bytes, os.stat_result]

#: Nanoseconds since its last change within which a file may change again unnoticed.
FRESH = 2_000_000_000
#: How often a file may change while it is read.
TRIES = 3

#: Why a folder cannot be a data set: it is not there, or none; a file may not be read; something is a
#: pipe, a socket or a device; a link leads nowhere, or out of the folder; a file changes all the time.
MISSING, NO_FOLDER, UNREADABLE = "missing", "no-folder", "unreadable"
SPECIAL, DANGLING, OUTSIDE, CHANGING = "special", "dangling", "outside", "changing"
REASONS = (MISSING, NO_FOLDER, UNREADABLE, SPECIAL, DANGLING, OUTSIDE, CHANGING)


class Unfit(Exception):
    """A folder cannot be a data set. ``reason`` is one of REASONS, ``path`` what it is about, relative
    to the folder or absolute, and ``target`` where a link leads."""

    def __init__(self, reason: str, path: bytes, target: bytes = b"") -> None:
        super().__init__(reason, path, target)
        self.reason, self.path, self.target = reason, path, target


def unfit(error: OSError) -> Unfit | None:
    """Return what an error of the system says about a folder that is read; None if it is about the
    machine."""
    path = (
        error.filename if isinstance(error.filename, bytes) else os.fsencode(error.filename or "")
    )
    if isinstance(error, FileNotFoundError):
        return Unfit(CHANGING, path) if path else None
    return Unfit(UNREADABLE, path) if isinstance(error, PermissionError) else None


def fingerprint(root: bytes, going_on: Callable[[], object] = lambda: None) -> str:
    """Return a hash of what the system knows of all files, without reading them. Raises OSError."""
    found = hashlib.blake2b(digest_size=16)
    for path, entry in manifest.walk(root):
        found.update(_state(path, entry.stat(follow_symlinks=False)))
        going_on()
    return found.hexdigest()


def _state(path: bytes, status: os.stat_result) -> bytes:
    return b"%d %d %d %d %d %s\0" % (
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        path,
    )


class Reading:
    """One walk through a folder: writes its manifest, and the sums to remember.

    ``version``, ``files`` and ``bytes`` hold once it is over. ``is_sure``: no file may change again
    without another fingerprint.
    """

    def __init__(self, root: bytes, before: BinaryIO | None) -> None:
        """``before``: what was remembered the last time. The root must be a real path."""
        self._root, self._remembered = root, _Remembered(before)
        self._states = hashlib.blake2b(digest_size=16)
        self.is_sure = True
        self.read = 0  # bytes of files, so far
        self.version, self.files, self.bytes = "", 0, 0

    @property
    def fingerprint(self) -> str:
        """The hash of all states, as :func:`fingerprint` returns it."""
        return self._states.hexdigest()

    def steps(self, made: IO[bytes], noted: IO[bytes]) -> Iterator[None]:
        """Write the manifest, and what to remember. Yields after each piece of work, which takes no
        longer than the disk needs for a MiB. Raises Unfit, OSError."""
        version = hashlib.sha256()

        def write(data: bytes) -> None:
            version.update(data)
            made.write(data)

        write(manifest.HEADER)
        for path, entry in manifest.walk(self._root):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self._states.update(_state(path, status))
                write(manifest.encode(Entry(path, target=self._target(path))))
            elif stat.S_ISREG(status.st_mode):
                known, status = yield from self._sum(path, status, noted)
                executable = bool(status.st_mode & stat.S_IXUSR)
                write(manifest.encode(Entry(path, status.st_size, executable, known)))
                self.bytes += status.st_size
            else:
                raise Unfit(SPECIAL, path)
            self.files += 1
            yield
        self.version = version.hexdigest()[: manifest.LENGTH]

    def _sum(
        self, path: bytes, status: os.stat_result, noted: IO[bytes]
    ) -> Generator[None, None, Summed]:
        """Return the sum of a file, and its state when it had that."""
        state = _state(path, status)
        found = self._remembered.sum_of(path, state)
        now = time.time_ns()
        if found is None:
            found, status = yield from self._hashed(path)
            state = _state(path, status)
        self._states.update(state)
        if max(status.st_ctime_ns, status.st_mtime_ns) > now - FRESH:
            self.is_sure = False
        else:
            noted.write(state + found + b"\0")
        return found, status

    def _hashed(self, path: bytes) -> Generator[None, None, Summed]:
        """Read a file, again if it changes meanwhile. Raises Unfit."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(TRIES):
            with os.fdopen(os.open(self._root + b"/" + path, flags), "rb", 0) as file:
                before = os.fstat(file.fileno())
                found = hashlib.sha256()
                left = before.st_size + 1  # it may grow as fast as it is read
                while left > 0:
                    piece = file.read(manifest.PIECE)
                    if not piece:
                        break
                    found.update(piece)
                    left -= len(piece)
                    self.read += len(piece)
                    yield
                after = os.fstat(file.fileno())
            if _state(path, before) == _state(path, after):
                return manifest.SHA256 + found.hexdigest().encode(), after
        raise Unfit(CHANGING, path)

    def _target(self, path: bytes) -> bytes:
        """Return the target of a link. Raises Unfit unless that is in the folder."""
        whole = self._root + b"/" + path
        target = os.readlink(whole)
        real = os.path.realpath(whole)
        if not os.path.exists(real):
            raise Unfit(DANGLING, path, target)
        if os.path.isabs(target) or not real.startswith(self._root + b"/"):
            raise Unfit(OUTSIDE, path, target)
        return target


class _Remembered:
    """The sums of the last time, to be asked in the order of paths."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._pairs = _pairs(file) if file else iter(())
        self._next = next(self._pairs, None)

    def sum_of(self, path: bytes, state: bytes) -> bytes | None:
        """Return the sum of a file that has not changed; None for others."""
        while self._next is not None and self._next[0] < path:
            self._next = next(self._pairs, None)
        if self._next is None or self._next[1] + b"\0" != state:
            return None
        return self._next[2]


def _pairs(file: BinaryIO) -> Iterator[Tuple[bytes, bytes, bytes]]:
    """Yield paths with the states in which they were read, and their sums."""
    rest: list[bytes] = []
    tail = b""
    while True:
        piece = file.read(manifest.PIECE)
        if not piece:
            return
        *whole, tail = (tail + piece).split(b"\0")
        rest += whole
        for state, known in zip(rest[::2], rest[1::2]):  # noqa: B905 - Python 3.8
            yield state.split(b" ", 5)[5], state, known
        rest = rest[len(rest) // 2 * 2 :]
