"""The files of logs, to which bytes come in pieces: again after a drop, and of thousands of ranks."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from ..spec.errors import LauncherError, RecordError

#: Logs that a run has open at once.
OPEN_LOGS = 32


class LogFile:
    """One log, written by offset: no byte is lost or doubled, however often a piece arrives."""

    def __init__(self, path: Path, open_files: OpenFiles | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._files = open_files or OpenFiles()
        self.size = os.fstat(self._files.fd(path)).st_size

    def write(self, offset: int, data: bytes) -> bytes:
        """Write a piece at its offset; return the part of it that is new.

        Raises RecordError, or LauncherError on a gap. Bytes written before stay as they are.
        """
        if offset > self.size:
            raise LauncherError(f"{self.path.name}: a piece is missing before byte {offset}")
        new = data[self.size - offset :]
        left = memoryview(new)
        while left:
            try:
                count = os.pwrite(self._files.fd(self.path), left, self.size)
            except OSError as error:
                raise RecordError(self.path, error) from None
            self.size += count
            left = left[count:]
        return new

    def tail(self, size: int = 16384) -> bytes:
        """Return the last ``size`` bytes."""
        return os.pread(self._files.fd(self.path), size, max(0, self.size - size))

    def close(self) -> None:
        """Close the file."""
        self._files.close()


class OpenFiles:
    """Files that are open to be written, the last used ones: a run may have thousands of logs, and a
    process 1,024 descriptors in all."""

    def __init__(self) -> None:
        self._fds: OrderedDict[Path, int] = OrderedDict()

    def fd(self, path: Path) -> int:
        """Return a descriptor that is open until the next call at least. Raises OSError."""
        if path in self._fds:
            self._fds.move_to_end(path)
        else:
            while len(self._fds) >= OPEN_LOGS:
                os.close(self._fds.popitem(last=False)[1])
            self._fds[path] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fds[path]

    def close(self) -> None:
        """Close all of them."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def safe_name(name: str) -> str:
    """Return a log's name as a host sent it. Raises LauncherError when it would leave the folder."""
    parts = name.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise LauncherError(f"a host sent a log with an impossible name: {name!r}")
    return name
