"""The files of a run that a host lists."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...spec.frozen import frozen
from ...spec.packed import LARGEST, PackedFiles
from .reading import LONGEST_PATH, MOST, require, require_folder


@frozen
class Files:
    """Outputs of a run on a host, ``(path, size, time)``, and links between them: all, or a part."""

    outputs: tuple[tuple[str, int, int], ...]
    code: tuple[tuple[str, int, int], ...]
    links: tuple[tuple[str, str], ...] = ()  # between outputs: path, and path of the target
    elsewhere: tuple[tuple[str, int, int], ...] = ()  # outside of the run's folder
    same: tuple[tuple[str, str], ...] = ()  # names of one file: one of them, and the first one
    sparse: tuple[tuple[str], ...] = ()  # those of them that have holes

    def __post_init__(self) -> None:
        for path, size, time in (*self.outputs, *self.code, *self.elsewhere):
            require(is_inside(path), "path", f"leads elsewhere: {path[:80]!r}")
            require(_can_be(path), "path", f"cannot be a file here: {path[:80]!r}")
            require(0 <= size <= LARGEST, "size", "is negative or endless")
            require(-LARGEST <= time <= LARGEST, "time", "is endless")


#: Most paths outside of the outputs that a host names.
MOST_WRITTEN = 1024


@frozen
class Written:
    """What a run wrote outside of its outputs: a file, a folder with a slash behind it, or all that are
    not named, without a path."""

    path: str
    files: int
    bytes: int

    def __post_init__(self) -> None:
        require(not self.path or is_inside(self.path), "path", "leads elsewhere")
        require(len(self.path) <= LONGEST_PATH, "path", "is too long")
        require(min(self.files, self.bytes) >= 0, "files", "is negative")


@frozen
class Listed:
    """What comes with the last part of the outputs: the sizes of the run's logs, and what the host
    left out."""

    folder: str
    logs: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()  # what the host could not read, and why
    left_out: tuple[tuple[str, str], ...] = ()  # other links and special files, and why
    unlisted: int = 0  # files that are more than a host lists
    written: tuple[Written, ...] = ()  # outside of the outputs, where that was asked for
    #: Folders outside of the run's: the path among the outputs, and the real one.
    places: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        require_folder(self.folder, "folder")
        require(len(self.places) <= MOST, "places", "names too many folders")
        for shown, folder in self.places:
            require(is_inside(shown) and _can_be(shown), "places", "leads elsewhere")
            require_folder(folder, "places")
        require(self.unlisted >= 0, "unlisted", "is negative")
        require(len(self.written) <= MOST_WRITTEN, "written", "names too many paths")


class Outputs:
    """All outputs of a run on a host, put together from parts."""

    def __init__(self) -> None:
        self.outputs, self.code, self.elsewhere = PackedFiles(), PackedFiles(), PackedFiles()
        self.links: list[tuple[str, str]] = []
        self.same: list[tuple[str, str]] = []
        self.sparse: set[str] = set()

    def take(self, part: Files) -> None:
        """Add a part."""
        self.outputs.extend(part.outputs)
        self.code.extend(part.code)
        self.elsewhere.extend(part.elsewhere)
        self.links += part.links
        self.same += part.same
        self.sparse.update(path for (path,) in part.sparse)


def _can_be(path: str) -> bool:
    """Return whether a file of this machine can have that path."""
    try:
        return len(os.fsencode(path)) > 0
    except UnicodeEncodeError:
        return False


def is_inside(path: str) -> bool:
    """Return whether a path is relative and stays in its folder."""
    return (
        path != "" and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")
    )
