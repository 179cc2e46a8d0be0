"""Lists a folder of this machine as a data set: the sum of every file, and the version they make.

A file is read once, and again when its size, its inode, or one of its times has changed: whoever
changes content and keeps all of these is not noticed. What changed within two seconds of being read is
read again the next time, since a later change might have the same time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from ...agent.base import manifest
from ...agent.base.manifest import Entry
from ...spec import data
from ...spec.data import Version
from ...spec.errors import InputError
from ...spec.frozen import frozen
from . import registry, store_listing, web_listing
from .store_listing import Prefix
from .web_listing import WebFile

#: Nanoseconds since its last change within which a file may change again unnoticed.
FRESH = 2_000_000_000
#: How often a file may change while it is read.
TRIES = 3

#: Called with the bytes that were read so far, and how many there are if that is known; what it raises
#: ends the reading.
OnRead = Callable[[int, int | None], None]
#: What hosts read themselves, by URLs.
Remote = Prefix | WebFile


@frozen
class Listed:
    """A version of a source, and its manifest. ``read`` of its bytes were read now."""

    version: Version
    folder: Path
    manifest: Path
    read: int = 0
    store: Remote | None = None  # where hosts read it, unless it is from here
    there: str = ""  # the host that has it, if it is from one


def read_source(source: str, on_read: OnRead = lambda count, total: None) -> Listed:
    """Return the version that a source has now: a folder, a prefix of a store, or a file of a web
    server. Blocks.

    Raises InputError, StoreError, OSError.
    """
    kind = data.scheme(source)
    if not kind:
        return read(Path(source), on_read)
    store: Remote
    if kind in data.WEB:
        version, store, listed = web_listing.read(source, on_read)
    else:
        version, store, listed = store_listing.read(source)
    return Listed(version, Path(), listed, store=store)


def read(folder: Path, on_read: OnRead = lambda count, total: None) -> Listed:
    """Return the version that a folder has now. Blocks. Raises InputError, OSError."""
    root = _checked(folder)
    sums = registry.note_of(os.fspath(root)).with_suffix("")
    manifests = registry.make_folder("manifests")
    try:
        seen = registry.seen(os.fspath(root))
        if seen and _fingerprint(os.fsencode(root)) == seen[0]:
            return Listed(seen[1], root, manifests / seen[1].version)
        return _read_again(root, sums, manifests, on_read)
    except FileNotFoundError as error:
        if isinstance(error.filename, bytes):
            raise _changes(os.fsdecode(error.filename)) from None
        raise
    except PermissionError as error:
        name = error.filename
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        raise InputError(f"{name} cannot be read: Permission denied", "chmod u+r it") from None


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist here"
        raise InputError(f"{folder} {problem}", "a data set is a folder, with all that is in it")
    return folder.resolve()


def _fingerprint(root: bytes) -> str:
    """Return a hash of what the system knows of all files, without reading them."""
    found = hashlib.blake2b(digest_size=16)
    for path, entry in manifest.walk(root):
        found.update(_state(path, entry.stat(follow_symlinks=False)))
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


# -- reading what has changed


def _read_again(root: Path, sums: Path, manifests: Path, on_read: OnRead) -> Listed:
    """Read what has changed since the last time, and remember all of it."""
    with (
        tempfile.NamedTemporaryFile(dir=manifests, prefix=".new-", delete=False) as made,
        tempfile.NamedTemporaryFile(dir=sums.parent, prefix=".new-", delete=False) as noted,
    ):
        try:
            with _opened(sums) as old:
                reading = _Reading(os.fsencode(root), _Remembered(old), on_read)
                found = reading.run(made, noted)
        except BaseException:
            os.unlink(made.name)
            os.unlink(noted.name)
            raise
    os.replace(made.name, manifests / found.version)
    os.replace(noted.name, sums)
    registry.settle(os.fspath(root), found, reading.fingerprint)
    return Listed(found, root, manifests / found.version, reading.read)


class _Reading:
    """One walk through a folder: writes its manifest, and the sums to remember."""

    def __init__(self, root: bytes, remembered: _Remembered, on_read: OnRead) -> None:
        self._root, self._remembered, self._on_read = root, remembered, on_read
        self._states = hashlib.blake2b(digest_size=16)
        self._is_fresh = False
        self.read = 0

    @property
    def fingerprint(self) -> str:
        """The hash of all states; "" if a file may change again without another state."""
        return "" if self._is_fresh else self._states.hexdigest()

    def run(self, made: IO[bytes], noted: IO[bytes]) -> Version:
        """Write both, and return the version. Raises InputError, OSError."""
        version = hashlib.sha256()
        files = size = 0

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
                known, status = self._sum(path, status, noted)
                executable = bool(status.st_mode & stat.S_IXUSR)
                write(manifest.encode(Entry(path, status.st_size, executable, known)))
                size += status.st_size
            else:
                raise InputError(
                    f"{self._name(path)} is a pipe, a socket or a device, which no data set can hold",
                    "move it out of the folder",
                )
            files += 1
        return Version(version.hexdigest()[: manifest.LENGTH], files, size)

    def _sum(
        self, path: bytes, status: os.stat_result, noted: IO[bytes]
    ) -> tuple[bytes, os.stat_result]:
        """Return the sum of a file, and its state when it had that."""
        state = _state(path, status)
        found = self._remembered.sum_of(path, state)
        now = time.time_ns()
        if found is None:
            found, status = self._hashed(path)
            state = _state(path, status)
        self._states.update(state)
        if max(status.st_ctime_ns, status.st_mtime_ns) > now - FRESH:
            self._is_fresh = True
        else:
            noted.write(state + found + b"\0")
        return found, status

    def _hashed(self, path: bytes) -> tuple[bytes, os.stat_result]:
        """Read a file, again if it changes meanwhile. Raises InputError."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(TRIES):
            with os.fdopen(os.open(self._root + b"/" + path, flags), "rb", 0) as file:
                before = os.fstat(file.fileno())
                found = hashlib.sha256()
                left = before.st_size + 1  # it may grow as fast as it is read
                while left > 0 and (piece := file.read(manifest.PIECE)):
                    found.update(piece)
                    left -= len(piece)
                    self.read += len(piece)
                    self._on_read(self.read, None)
                after = os.fstat(file.fileno())
            if _state(path, before) == _state(path, after):
                return manifest.SHA256 + found.hexdigest().encode(), after
        raise _changes(self._name(path))

    def _target(self, path: bytes) -> bytes:
        """Return the target of a link. Raises InputError unless that is in the folder."""
        whole = self._root + b"/" + path
        target = os.readlink(whole)
        real = os.path.realpath(whole)
        leads = f"{self._name(path)} is a link to {os.fsdecode(target)}"
        if not os.path.exists(real):
            raise InputError(f"{leads}, which does not exist", "remove the link")
        if os.path.isabs(target) or not real.startswith(self._root + b"/"):
            raise InputError(
                f"{leads}: a data set has relative links to its own files only",
                "cp -rL copies a folder with what its links lead to",
            )
        return target

    def _name(self, path: bytes) -> str:
        return os.fsdecode(self._root + b"/" + path)


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


def _pairs(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield paths with the states in which they were read, and their sums."""
    rest: list[bytes] = []
    tail = b""
    while piece := file.read(manifest.PIECE):
        *whole, tail = (tail + piece).split(b"\0")
        rest += whole
        for state, known in zip(rest[::2], rest[1::2], strict=False):
            yield state.split(b" ", 5)[5], state, known
        rest = rest[len(rest) // 2 * 2 :]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def _changes(name: str) -> InputError:
    return InputError(f"{name} changes while it is read", "wait until nothing writes there")
