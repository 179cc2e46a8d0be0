"""The journal: an append-only file of numbered records of what happened on this host."""

from __future__ import annotations

import errno
import os
import time

from . import lean, plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .messages import Message


#: There is none yet, or the run has put something else in its place, or closed its folder.
NO_JOURNAL = (errno.ENOENT, errno.EINVAL, errno.EACCES)
#: Bytes that a disk with room takes: more than a record that has to last.
ROOM = 1 << 16


class Journal:
    """Opened by the one supervisor of a run; any relay may read it.

    A record torn by a power cut is dropped when the journal is opened again. While the disk is full,
    records wait in memory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = plain_files.opened(path, os.O_RDWR | os.O_CREAT)
        data = _read_all(self._fd)
        whole = data.rfind(b"\n") + 1
        os.ftruncate(self._fd, whole)
        os.lseek(self._fd, whole, os.SEEK_SET)
        self.seq = data.count(b"\n", 0, whole)
        self._waiting = b""

    def append(self, event: str, **fields: Any) -> Message:
        """Write one record and return it."""
        record = dict(fields, seq=self.seq, time=time.time(), event=event)
        self.seq += 1
        self._waiting += lean.dumps(record).encode("ascii") + b"\n"
        self.flush()
        return record

    def append_lasting(self, event: str, **fields: Any) -> Message | None:
        """Write one record that even a power cut leaves on the disk, and return it.

        Return None if the disk cannot keep it: then it is in no journal, and nobody has to undo it.
        """
        if not self.sync():
            return None
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        record = self.append(event, **fields)
        if self.sync():
            return record
        self._waiting = b""
        self.seq -= 1
        self._cut(end)
        return None

    def has_room(self) -> bool:
        """Try whether the disk takes more records: blanks, which are no record, and go again."""
        if not self.sync():
            return False
        end = os.lseek(self._fd, 0, os.SEEK_CUR)
        try:
            taken = os.write(self._fd, b" " * ROOM)
            os.fsync(self._fd)
        except OSError:
            taken = 0
        self._cut(end)
        return taken == ROOM

    def _cut(self, end: int) -> None:
        """Remove what is behind ``end``. Where even that fails, later records overwrite it."""
        try:
            os.ftruncate(self._fd, end)
        except OSError:
            pass
        os.lseek(self._fd, end, os.SEEK_SET)

    def flush(self) -> None:
        """Write what could not be written before. A full disk is not an error here."""
        while self._waiting:
            try:
                self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
            except OSError:
                return

    def close(self) -> None:
        """Close the file: another supervisor goes on with it."""
        self.flush()
        os.close(self._fd)

    def sync(self) -> bool:
        """Have the disk keep all records, even in a power cut; return False if it cannot."""
        self.flush()
        try:
            os.fsync(self._fd)
        except OSError:
            return False
        return not self._waiting


def write_private(path: str, value: object) -> None:
    """Write a file that no other user may read, atomically. Raises OSError."""
    fd = plain_files.opened(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(fd, "w") as file:
        file.write(lean.dumps(value))
    os.rename(path + ".new", path)


def forget(path: str) -> None:
    """Remove a file, if it exists."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _read_all(fd: int) -> bytes:
    pieces: list[bytes] = []
    while True:
        piece = os.read(fd, 1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def read_from(path: str, offset: int) -> list[tuple[Message, int]]:
    """Return the complete records after ``offset``, as ``[(record, end offset)]``.

    A line that holds no record is skipped: a power cut may leave one.
    """
    try:
        data = plain_files.content(path, offset)
    except OSError as error:
        if error.errno in NO_JOURNAL:
            return []
        raise
    records: list[tuple[Message, int]] = []
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        offset += len(line)
        record = _record(line)
        if record is not None:
            records.append((record, offset))
    return records


def _record(line: bytes) -> Message | None:
    """Return the record of a line, or None."""
    try:
        record = lean.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("seq"), int):
        return None
    return record if isinstance(record.get("event"), str) else None
