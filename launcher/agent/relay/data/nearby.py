"""Takes a version of a data set from other users of this host, who have it in a folder that all share.

Nothing of theirs is believed, and none of it is parsed: the manifest is ours, and a file counts once
its copy here has the sum in it. A folder of theirs may be a half, change, vanish, or be hostile. Its
links are not followed, and what is no plain file of the right size is not read.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time

from ...base import manifest
from . import places
from . import sums as data_sums
from .sums import MD5

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ...base.messages import Message

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: The ioctl by which two files share their blocks on the disk, until one of them changes.
_CLONE = 0x40049409


class Unfit(Exception):
    """What others have is not the version: a sentence about a file."""


def having(shared: str, root: str, version: str) -> list[tuple[str, str]]:
    """Return the folders of others that have a version, by its name, each with its user."""
    found = []
    for name in places.others(shared, root):
        try:
            folder = _opened(shared, name, version)
        except OSError:
            continue
        try:
            found.append((name, places.user_name(os.fstat(folder).st_uid)))
        finally:
            os.close(folder)
    return sorted(found)


def _opened(shared: str, name: str, version: str) -> int:
    """Return a descriptor of the files of a version. Raises OSError."""
    here = os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in (name, version, "files"):
        here = _below(here, os.fsencode(part))
    return here


def _below(folder: int, name: bytes) -> int:
    """Return a descriptor of a folder in another one, which is closed. Raises OSError."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    finally:
        os.close(folder)


class Taking:
    """Copies a version from other users into an incoming copy, for a while at a time."""

    def __init__(
        self, shared: str, root: str, version: str, incoming: str, going_on: Callable[[], object]
    ) -> None:
        self._shared, self._root, self.version = shared, root, version
        self._incoming, self._going_on = incoming, going_on
        self._answer: Message = {"bytes": 0, "over": False, "whole": False, "user": "", "why": ""}
        self.summed: set[bytes] = set()  # files whose sums were compared as they were copied
        self._steps = self._take_all()

    def go_on(self, seconds: float) -> Message:
        """Copy for so long; return the bytes so far, and at the end whether all is here, whose it was,
        and why not. Raises OSError for a disk of our own."""
        until = time.monotonic() + seconds
        for _ in self._steps:
            if time.monotonic() > until:
                return self._answer
        self._answer["over"] = True
        return self._answer

    def _take_all(self) -> Iterator[None]:
        for name, user in having(self._shared, self._root, self.version):
            self._answer["user"] = user
            try:
                theirs = _opened(self._shared, name, self.version)
            except OSError as error:
                self._answer["why"] = error.strerror or "it cannot be read"
                continue
            try:
                yield from self._take(theirs)
                self._answer.update(whole=True, why="")
                return
            except Unfit as found:
                self._answer["why"] = str(found)
            finally:
                os.close(theirs)

    def _take(self, theirs: int) -> Iterator[None]:
        """Copy what is missing from one folder. Raises Unfit, OSError."""
        known = data_sums.noted(self._incoming)
        part = os.fsencode(os.path.join(self._incoming, "taken"))
        with open(os.path.join(self._incoming, "sums"), "ab", 0) as sums:
            for entry in data_sums.entries(self._incoming, "manifest"):
                whole = os.path.join(os.fsencode(self._incoming), b"files", entry.path)
                if entry.target is not None or not _is_missing(entry, whole, known):
                    continue
                try:
                    checksum = yield from self._copy(theirs, entry, part)
                    os.makedirs(os.path.dirname(whole), mode=0o700, exist_ok=True)
                    os.replace(part, whole)
                finally:
                    if os.path.lexists(part):
                        os.unlink(part)
                sums.write(b"%s %s\0" % (checksum, entry.path))
                self.summed.add(entry.path)
                self._going_on()

    def _copy(
        self, theirs: int, entry: manifest.Entry, part: bytes
    ) -> Generator[None, None, bytes]:
        """Copy a file, and return its sum. Raises Unfit, OSError."""
        name = os.fsdecode(entry.path)
        try:
            source = _file(theirs, entry.path)
        except OSError as error:
            raise Unfit("%s: %s" % (name, error.strerror))
        try:
            about = os.fstat(source)
            if not stat.S_ISREG(about.st_mode):
                raise Unfit("%s is no file" % name)
            if about.st_size != entry.size:
                raise Unfit("%s has %d bytes instead of %d" % (name, about.st_size, entry.size))
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(part, flags, 0o600), "r+b", 0) as file:
                checksum = yield from self._copied(source, file.fileno(), entry)
            moment = max(0, min(about.st_mtime_ns, time.time_ns()))
            os.utime(part, ns=(moment, moment))
            return checksum
        finally:
            os.close(source)

    def _copied(
        self, source: int, part: int, entry: manifest.Entry
    ) -> Generator[None, None, bytes]:
        """Copy the bytes of a file, and return their sum. Raises Unfit, OSError."""
        name, tag = os.fsdecode(entry.path), data_sums.tag_in(entry)
        sha256, md5 = hashlib.sha256(), data_sums.md5_or_none() if tag else None
        if tag and not (md5 and MD5.match(tag)):
            raise Unfit("its store names no sum of %s" % name)
        is_clone, left = _cloned(source, part), entry.size
        while left:
            try:
                piece = os.read(part if is_clone else source, min(manifest.PIECE, left))
            except OSError as error:
                raise Unfit("%s: %s" % (name, error.strerror))
            if not piece:
                raise Unfit("%s became shorter" % name)
            left -= len(piece)
            sha256.update(piece)
            if md5:
                md5.update(piece)
            if not is_clone:
                _write(part, piece)
            self._answer["bytes"] += len(piece)
            self._going_on()
            yield
        checksum = manifest.SHA256 + sha256.hexdigest().encode()
        if checksum != entry.sum if md5 is None else md5.hexdigest() != tag:
            raise Unfit("%s has another sum" % name)
        if is_clone:
            os.ftruncate(part, entry.size)  # the file may have grown just before
        return checksum


def _is_missing(entry: manifest.Entry, whole: bytes, known: dict[bytes, bytes]) -> bool:
    is_noted = entry.path in known and os.path.lexists(whole)
    return not is_noted or data_sums.size_of(os.fsdecode(whole)) != entry.size


def _file(folder: int, path: bytes) -> int:
    """Return a descriptor of a file below a folder, by no link. Raises OSError."""
    *parents, name = path.split(b"/")
    here = os.dup(folder)
    for parent in parents:
        here = _below(here, parent)
    try:
        return os.open(name, _FILE, dir_fd=here)
    finally:
        os.close(here)


def _cloned(source: int, part: int) -> bool:
    try:
        fcntl.ioctl(part, _CLONE, source)
    except OSError:
        return False  # another file system, or one that cannot
    return True


def _write(part: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(part, left) :]
