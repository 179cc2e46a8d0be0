"""Outputs that travel as logs do, ``live/HOST/PATH`` in the folder of a run on this machine.

They are TensorBoard's files and those of W&B: scalars are here seconds after they were written, and the
pull at the end brings the same bytes once more, to ``outputs/``. Hosts name these files, so how many and
how large they are is bounded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

LIVE = "live"
#: Most files of a host, and bytes of them together.
FILES, BYTES = 256, 1 << 30
#: Files among all outputs that links are made to.
MOST = 20_000


class LiveFiles:
    """Those of one host. What cannot be written is left out from there on, until the host is followed
    anew: the other outputs bring it at the latest."""

    def __init__(self, run: Path, host: str) -> None:
        self._folder = run / LIVE / host
        self.sizes: dict[str, int] = {path: _size(file) for path, file in of(run, host)}
        self._broken: set[str] = set()

    def begin(self) -> None:
        """Take files again that could not be written: the host sends them from where they are."""
        self._broken.clear()

    def take(self, path: str, offset: int, data: bytes) -> None:
        """Write a piece at its offset, unless it is here."""
        size = self.sizes.get(path, 0)
        new = data[size - offset :] if offset <= size else b""
        if not new or path in self._broken or not self._has_room(path, len(new)):
            return
        try:
            self._write(path, size, new)
        except OSError:
            self._broken.add(path)
            self.sizes[path] = _size(self._folder / path)

    def _has_room(self, path: str, size: int) -> bool:
        if path not in self.sizes and len(self.sizes) >= FILES:
            return False
        return sum(self.sizes.values()) + size <= BYTES

    def _write(self, path: str, at: int, data: bytes) -> None:
        place = self._folder / path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while data:
                count = os.pwrite(fd, data, at)
                at, data = at + count, data[count:]
            self.sizes[path] = at
        finally:
            os.close(fd)


def of(run: Path, host: str) -> Iterator[tuple[str, Path]]:
    """Yield those of a host: path among the outputs, and file."""
    top = run / LIVE / host
    for place, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            yield str(file.relative_to(top)), file


def by_name(run: Path) -> dict[str, list[tuple[str, Path]]]:
    """Return those of all hosts by the names that ``outputs/`` may have for them, each with a word for
    it and its file. A file of several hosts with different contents has the host in its name there."""
    found: dict[str, list[tuple[str, Path]]] = {}
    try:
        hosts = sorted(os.listdir(run / LIVE))
    except OSError:
        return found
    for host in hosts:
        for path, file in of(run, host):
            entry = (f"{LIVE}/{host}/{path}", file)
            pure = PurePosixPath(path)
            stem = pure.name.removesuffix(pure.suffix) if pure.suffix else pure.name
            for name in (path, str(pure.with_name(f"{stem}@{host}{pure.suffix}"))):
                found.setdefault(name, []).append(entry)
    return found


def lay_together(run: Path, place: Path) -> None:
    """Make ``place`` a folder of links to the outputs of a run: those that travel as logs do, from where
    they are longest. Called again, it adds what is new. Raises OSError."""
    live, wanted = by_name(run), dict[str, Path]()
    for name, twins in live.items():
        for word, file in twins:
            if word.endswith(f"/{name}"):  # not one with its host in it
                wanted.setdefault(name, file)
    looked, top = 0, run / "outputs"
    for base, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            file = Path(base, name)
            path = str(file.relative_to(top))
            twins = live.get(path, [])
            wanted[path] = max([*(twin for _, twin in twins), file], key=_size)
        looked += 1 + len(names)
        if looked > MOST:
            break
    for path, file in wanted.items():
        link = place / path
        if link.is_symlink() and link.readlink() == file:
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = link.with_name(".new")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(file)
        os.replace(temporary, link)


def settle(run: Path, host: str, mirror: Path) -> None:
    """Let those of a host be the same files as its outputs that have come, which are whole."""
    for path, file in list(of(run, host)):
        there = mirror / path
        if there.is_symlink() or not there.is_file() or _is_same(there, file):
            continue
        temporary = run / f".settled-{os.getpid()}"
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            os.link(there, temporary)
            os.replace(temporary, file)


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _size(file: Path) -> int:
    with suppress(OSError):
        status = os.lstat(file)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0
