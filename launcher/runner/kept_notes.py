"""What this machine keeps of the sources of data sets and of images that it has built, and wheels, so as
not to read, build or fetch them again: how much that is, and what of it is old."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from ..records.record_files import read_as
from ..records.run_reader import RunReader, sets_of
from ..spec import data
from ..spec.errors import LauncherError
from ..spec.frozen import frozen
from ..spec.home import home
from .data import registry
from .files.build_context import FOLDER as BUILDS
from .wheels.folders import FOLDER as WHEELS

#: Seconds for which a note that was used stays, whatever is asked for: somebody may be at it.
FRESH = 3600.0


@frozen
class Note:
    """What is kept of a source, of the builds of a Dockerfile, or of wheels for a kind of host: files
    below launcher's folder with their bytes, and when it was last used. ``needed``: by a data set that
    has a name, by a run that is active, or by somebody a moment ago. Several notes may have a file in
    common."""

    files: Mapping[str, int] = field(default_factory=dict)
    used: float = 0.0
    needed: bool = False


@frozen
class _Noted:
    source: str
    version: str


def measured(active: Iterable[Path]) -> tuple[Note, ...]:
    """Return all notes here; ``active`` are the folders of active runs."""
    sources, versions = _needed(active)
    notes = [*_of_data(sources, versions), *_of_builds(), *_of_wheels()]
    fresh = time.time() - FRESH
    return tuple(
        Note(one.files, one.used, one.needed or one.used > fresh) for one in notes if one.files
    )


def size_of(notes: Iterable[Note]) -> int:
    """Return the bytes of all of them. Pure."""
    return sum({name: size for one in notes for name, size in one.files.items()}.values())


def doomed(notes: Iterable[Note], before: float) -> dict[str, int]:
    """Return the files, with their bytes, of what nothing needs or has used since ``before``. Pure."""
    notes = tuple(notes)
    kept = {name for one in notes if one.needed or one.used >= before for name in one.files}
    return {
        name: size for one in notes for name, size in sorted(one.files.items()) if name not in kept
    }


def remove(names: Collection[str], active: Iterable[Path], before: float) -> int:
    """Delete files that are still doomed; return the bytes that this frees."""
    freed = 0
    for name, size in doomed(measured(active), before).items():
        if name in names:
            path = home() / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            freed += size
    return freed


# -- data sets


def _needed(active: Iterable[Path]) -> tuple[set[str], set[str]]:
    """Return the sources of named sets and of active runs, as notes have them, and versions of these."""
    sources = {name for one in registry.known() for name in _names_of(one.source, one.credential)}
    versions = {one.version.version for one in registry.known()}
    for folder in active:
        with suppress(LauncherError):
            versions |= {one.version for one in sets_of(folder)}
            for wanted in RunReader(folder).request.job.data:
                sources |= _names_of(wanted.source, wanted.credential)
    return sources, versions


def _names_of(source: str, credential: str) -> set[str]:
    if data.scheme(source) or data.on_a_host(source):
        return {source, f"{source} {credential}".strip()}
    return {os.fspath(Path(source).resolve())}


def _of_data(sources: Collection[str], versions: Collection[str]) -> Iterator[Note]:
    base = registry.folder()
    manifests = {path.name: path for path in _files(base / "manifests")}
    notes = {path.name: path for path in _files(base / "sums")}
    for name in [name for name in notes if name.endswith(".json")]:
        noted = read_as(_Noted, notes[name])
        if noted is None:
            continue
        its = [notes.pop(name), notes.pop(name.removesuffix(".json"), None)]
        its.append(manifests.get(noted.version))
        yield _note(its, its[0], noted.source in sources)
    for version in versions:
        yield _note([manifests.get(version)], None, True)
    for left in (*notes.values(), *manifests.values()):  # of those who were killed, too
        yield _note([left], left)


def _of_builds() -> Iterator[Note]:
    groups: dict[str, list[Path]] = {}
    for path in _files(home() / BUILDS):
        groups.setdefault(path.stem, []).append(path)
    for paths in groups.values():
        yield _note(paths, max(paths, key=_changed))


def _of_wheels() -> Iterator[Note]:
    """Yield the sets of wheels, which may have wheels in common, and the wheels of none."""
    pool = {path.lstat().st_ino: path for path in _files(home() / WHEELS / "files")}
    lonely = dict(pool)
    groups: dict[str, list[Path]] = {}
    for path in _files(home() / WHEELS / "sets"):
        groups.setdefault(path.name.partition(".")[0], []).append(path)
    for paths in groups.values():
        inside = [file for path in paths if path.is_dir() for file in _files(path)]
        inodes = {file.lstat().st_ino for file in inside}
        shared = [pool[inode] for inode in inodes if inode in pool]
        for inode in inodes:
            lonely.pop(inode, None)
        yield _note([*paths, *shared], max(paths, key=_changed))
    for left in lonely.values():
        yield _note([left], left)


def _note(paths: Iterable[Path | None], newest: Path | None, needed: bool = False) -> Note:
    files = {}
    for path in paths:
        with suppress(OSError):
            if path is not None:
                files[os.fspath(path.relative_to(home()))] = path.lstat().st_blocks * 512
    return Note(files, _changed(newest) if newest else 0.0, needed)


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.lstat().st_mtime
    return time.time()  # it has just gone


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
