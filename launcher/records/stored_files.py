"""The files that are in a store, noted in a file of the run's folder: a line for each, as they come.

A line is ``[name, host, path, size, time, sum]``, or ``[name]`` for one that is there no more; the last
line of a name counts. A line that is cut off, by a full disk or a kill, is passed over.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from sys import intern

from ..spec.errors import RecordError
from .record_files import write
from .stored import StoredFile

#: Its name in the run's folder.
FILES = "stored-files.jsonl"
#: Lines of files that are there no more, or twice, before the file is written anew.
STALE = 1000

_Row = tuple[str, str, int, int, bytes]


class StoredFiles:
    """What is in a store. Memory has little for each file, and a note costs what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, _Row] = {}
        self._new: list[bytes] = []
        self._lines = 0
        self._lock, self._saving = threading.Lock(), threading.Lock()
        try:
            with path.open("rb") as file:
                for line in file:
                    self._read(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RecordError(path, error) from None

    def _read(self, line: bytes) -> None:
        self._lines += 1
        try:
            name, *values = json.loads(line)
            if values:
                host, path, size, time, known = values
                self._put(StoredFile(str(name), str(host), str(path), int(size), int(time), known))
            else:
                self._rows.pop(name, None)
        except (ValueError, TypeError):
            return  # it is stored again

    def _put(self, one: StoredFile) -> None:
        path = one.name if one.path == one.name else one.path
        self._rows[one.name] = intern(one.host), path, one.size, one.time, bytes.fromhex(one.sum)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[StoredFile]:
        return (_file(name, row) for name, row in list(self._rows.items()))

    def get(self, name: str) -> StoredFile | None:
        """Return the file of a name in the store."""
        row = self._rows.get(name)
        return row and _file(name, row)

    @property
    def names(self) -> list[str]:
        """All names in the store."""
        return list(self._rows)

    @property
    def total(self) -> int:
        """The sizes of all together."""
        return sum(row[2] for row in list(self._rows.values()))

    def add(self, files: Iterable[StoredFile]) -> None:
        """Add files, which :meth:`save` notes."""
        with self._lock:
            for one in files:
                self._put(one)
                self._new.append(_line(one))

    def remove(self, name: str) -> None:
        """Remove a file, which :meth:`save` notes."""
        with self._lock:
            if self._rows.pop(name, None) is not None:
                self._new.append(json.dumps([name]).encode() + b"\n")

    def save(self) -> None:
        """Note what has changed. Blocks. Raises RecordError."""
        with self._saving:
            with self._lock:
                new, self._new = self._new, []
            try:
                if new and self._lines + len(new) > 2 * len(self._rows) + STALE:
                    lines = list(map(_line, self))
                    write(self._path, b"".join(lines))
                    self._lines = len(lines)
                elif new:
                    self._append(b"".join(new))
                    self._lines += len(new)
            except OSError as error:
                with self._lock:
                    self._new = [*new, *self._new]
                raise RecordError(self._path, error) from None

    def _append(self, lines: bytes) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            left = memoryview(lines)
            while left:
                left = left[os.write(file, left) :]
        finally:
            os.close(file)


def _file(name: str, row: _Row) -> StoredFile:
    host, path, size, time, known = row
    return StoredFile(name, host, path, size, time, known.hex())


def _line(one: StoredFile) -> bytes:
    return json.dumps([one.name, one.host, one.path, one.size, one.time, one.sum]).encode() + b"\n"
