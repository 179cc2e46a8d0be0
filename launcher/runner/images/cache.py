"""Folders of this machine with files of images that travel to hosts."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: In a cache: held while somebody fills it.
LOCK = "lock"


def linked(cache: Path, file: Path, name: str) -> Path:
    """Return a link to a file, under the name that hosts expect; several copies may read it at once."""
    link = cache / "links" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # made for another host, which reads it now
        link.symlink_to(file.resolve())
    return link


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """Use a folder for as long as an image is brought."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def left(base: Path) -> list[Path]:
    """Return the folders of those who were killed while they brought an image."""
    return [path for path in sorted(base.iterdir()) if not _is_held(path)] if base.is_dir() else []


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return not folder.is_dir()  # one of an earlier version, or it has just begun
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
