"""Lists the source of a data set: the version that it has now, and what is in it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...agent.base import folder_sums
from ...agent.base.folder_sums import Reading, Unfit
from ...spec import data
from ...spec.data import Version
from ...spec.errors import InputError
from ...spec.frozen import frozen
from . import registry, store_listing, web_listing
from .store_listing import Prefix
from .web_listing import WebFile

#: Called with the bytes that were read so far, and how many there are if that is known; what it raises
#: ends the reading.
OnRead = Callable[[int, int | None], None]
#: Characters of a version; also in agent/base/manifest.py.
LENGTH = 32
_A_FOLDER = "a data set is a folder, with all that is in it"
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
    there: str = ""  # the host that has it, if it is from one; then the folder is one of that host
    is_shared: bool = False  # all hosts have the folder; nothing of it was read


def read_source(
    source: str, on_read: OnRead = lambda count, total: None, credential: str = ""
) -> Listed:
    """Return the version that a source has now: a folder, a prefix of a store, or a file of a web
    server; a store is read with the credential of that name. That of a folder which hosts share names
    its path alone. Blocks.

    Raises InputError, StoreError, OSError.
    """
    kind = data.scheme(source)
    if not kind:
        return read(Path(source), on_read)
    if kind == data.SHARED:
        folder = data.shared_path(source)
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:LENGTH]
        return Listed(Version(name, 0, 0), Path(folder), Path(), is_shared=True)
    store: Remote
    if kind in data.WEB:
        version, store, listed = web_listing.read(source, on_read)
    else:
        version, store, listed = store_listing.read(source, credential)
    return Listed(version, Path(), listed, store=store)


def read(folder: Path, on_read: OnRead = lambda count, total: None) -> Listed:
    """Return the version that a folder of this machine has now. Blocks. Raises InputError, OSError."""
    root = _checked(folder)
    sums = registry.note_of(os.fspath(root)).with_suffix("")
    manifests = registry.make_folder("manifests")
    try:
        seen = registry.seen(os.fspath(root))
        if seen and folder_sums.fingerprint(os.fsencode(root)) == seen[0]:
            return Listed(seen[1], root, manifests / seen[1].version)
        return _read_again(root, sums, manifests, on_read)
    except OSError as error:
        if (found := folder_sums.unfit(error)) is None:
            raise
        raise _unfit_here(root, found) from None
    except Unfit as found:
        raise _unfit_here(root, found) from None


def _unfit_here(root: Path, found: Unfit) -> InputError:
    path = os.path.join(os.fsencode(root), found.path)
    return unfit(found.reason, os.fsdecode(path), os.fsdecode(found.target))


def _checked(folder: Path) -> Path:
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist here"
        raise InputError(f"{folder} {problem}", _A_FOLDER)
    return folder.resolve()


# -- reading what has changed


def _read_again(root: Path, sums: Path, manifests: Path, on_read: OnRead) -> Listed:
    """Read what has changed since the last time, and remember all of it."""
    with (
        tempfile.NamedTemporaryFile(dir=manifests, prefix=".new-", delete=False) as made,
        tempfile.NamedTemporaryFile(dir=sums.parent, prefix=".new-", delete=False) as noted,
    ):
        try:
            with _opened(sums) as old:
                reading = Reading(os.fsencode(root), old)
                before = 0
                for _ in reading.steps(made, noted):
                    if reading.read > before:
                        before = reading.read
                        on_read(before, None)
        except BaseException:
            os.unlink(made.name)
            os.unlink(noted.name)
            raise
    found = Version(reading.version, reading.files, reading.bytes)
    os.replace(made.name, manifests / found.version)
    os.replace(noted.name, sums)
    registry.settle(os.fspath(root), found, reading.fingerprint if reading.is_sure else "")
    return Listed(found, root, manifests / found.version, reading.read)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def unfit(reason: str, path: str, target: str = "") -> InputError:
    """Return the error for a folder that cannot be a data set; see ``folder_sums.REASONS``. ``path`` is
    written as a person would."""
    link = f"{path} is a link to {target}"
    text, hint = {
        folder_sums.MISSING: (f"{path} does not exist", _A_FOLDER),
        folder_sums.NO_FOLDER: (f"{path} is not a folder", _A_FOLDER),
        folder_sums.UNREADABLE: (f"{path} cannot be read: Permission denied", "chmod u+r it"),
        folder_sums.SPECIAL: (
            f"{path} is a pipe, a socket or a device, which no data set can hold",
            "move it out of the folder",
        ),
        folder_sums.DANGLING: (f"{link}, which does not exist", "remove the link"),
        folder_sums.OUTSIDE: (
            f"{link}: a data set has relative links to its own files only",
            "cp -rL copies a folder with what its links lead to",
        ),
        folder_sums.CHANGING: (
            f"{path} changes while it is read",
            "wait until nothing writes there",
        ),
    }[reason]
    return InputError(text, hint)
