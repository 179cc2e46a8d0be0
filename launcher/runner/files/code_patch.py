"""What a host lacks of the code, where that is little: it goes with a request, and nobody starts rsync.

Each file is read once, so all hosts get the same.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ...spec.frozen import frozen
from ...transport.answers.runs import MOST_KNOWN, Known
from .code_snapshot import Source

#: Bytes that a host lacks at most: on a slow line, more of them should show how far they are.
MOST_BYTES = 1 << 19


@frozen
class Patch:
    """What makes a version of the code of another one: paths that are ``gone``, ``(path, size, time,
    mode)`` of files whose content follows, and links."""

    gone: tuple[str, ...]
    files: tuple[tuple[str, int, int, int], ...]
    links: tuple[tuple[str, str], ...]
    content: bytes

    @property
    def request(self) -> dict[str, Any]:
        """The fields of the request."""
        return {"gone": self.gone, "files": self.files, "links": self.links}

    @property
    def bytes(self) -> int:
        """About what it takes to send it."""
        return len(self.content) + sum(len(os.fsencode(path)) for path in self._paths)

    @property
    def _paths(self) -> list[str]:
        return [*self.gone, *(path for path, *_ in self.files), *(path for path, _ in self.links)]


def is_small(source: Source) -> bool:
    """Return whether hosts should list what they have of a source."""
    return len(source.paths) + len(source.added) <= MOST_KNOWN


class Patches:
    """What each host lacks of a source. Blocks, and may be asked by several threads."""

    def __init__(self, source: Source) -> None:
        self._source, self._lock = source, threading.Lock()
        self._made: dict[Known, Patch | None] = {}
        self._read: dict[str, tuple[tuple[str, int, int, int], bytes] | None] = {}

    def against(self, known: Known) -> Patch | None:
        """Return what a host lacks that knows a version; None where only rsync should send it: it is
        much, a file has several names, or one cannot be read."""
        with self._lock:
            if known not in self._made:
                self._made[known] = self._make(known)
            return self._made[known]

    def _make(self, known: Known) -> Patch | None:
        states = self._states
        if states is None:
            return None
        had_files = {path: state for path, *state in known.files}
        had_links = dict(known.links)
        files, links, room = [], [], MOST_BYTES
        for path, (status, target) in states.items():
            if target is not None:
                if had_links.get(path) != target:
                    links.append((path, target))
            elif had_files.get(path) != _there(status):
                room -= status.st_size
                if status.st_nlink > 1 or room < 0:
                    return None
                files.append(path)
        read = [self._content(path) for path in files]
        if None in read:
            return None
        contents = [one for one in read if one]
        same = states.keys() - {*files, *(path for path, _ in links)}
        gone = sorted((had_files.keys() | had_links.keys()) - same)
        return Patch(
            tuple(gone),
            tuple(head for head, _ in contents),
            tuple(links),
            b"".join(content for _, content in contents),
        )

    @cached_property
    def _states(self) -> dict[str, tuple[os.stat_result, str | None]] | None:
        """Return what each path of the source is now, and where it leads if it is a link; None where
        that cannot be found out."""
        found = {}
        try:
            for path in (*self._source.paths, *self._source.added):
                place = self._place(os.fsdecode(path))
                status = os.lstat(place)
                target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else None
                found[os.fsdecode(path)] = status, target
        except OSError:
            return None
        return found

    def _place(self, path: str) -> Path:
        source = self._source
        added = source.added_from if os.fsencode(path) in source.added else None
        return (added or source.folder) / path

    def _content(self, path: str) -> tuple[tuple[str, int, int, int], bytes] | None:
        """Return a file as it goes into a request, and what is in it; None if it changes meanwhile."""
        if path not in self._read:
            self._read[path] = None
            with suppress(OSError):
                self._read[path] = _read(self._place(path), path)
        return self._read[path]


def _there(status: os.stat_result) -> list[int]:
    """Return size, time and mode of a file on hosts."""
    # The sealed version is shared by all later runs: nobody should write into it.
    mode = (stat.S_IMODE(status.st_mode) & ~0o222) | stat.S_IRUSR
    return [status.st_size, status.st_mtime_ns, mode]


def _read(place: Path, path: str) -> tuple[tuple[str, int, int, int], bytes] | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with os.fdopen(os.open(place, flags), "rb", 0) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode) or before.st_size > MOST_BYTES:
            return None
        content = b""
        while piece := file.read(MOST_BYTES + 1 - len(content)):
            content += piece
        after = os.fstat(file.fileno())
    size, time, mode = _there(before)
    if [size, time, mode] != _there(after) or len(content) != size:
        return None
    return (path, size, time, mode), content
