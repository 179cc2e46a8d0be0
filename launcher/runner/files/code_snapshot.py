"""The code of a run: the files of a folder at one moment, under a fingerprint that hosts compute, too.

The program that starts a run can add files to its code; no rule leaves them out.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...agent.base.protocol import Fingerprint
from ...records import formats
from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...spec.home import home
from ...spec.model import Job
from . import code_files
from .revision import Revision

_Paths = tuple[bytes, ...]


@frozen
class Source:
    """The files of a folder at one moment. ``paths`` are relative, as bytes, and sorted. Those of
    ``added`` are in a folder of their own, ``added_from``, and take the place of others."""

    folder: Path
    paths: tuple[bytes, ...]
    version: str
    files: int
    bytes: int
    origin: Path | None = None  # where it was read first, when ``folder`` holds a copy
    unreadable: _Paths = ()  # files and folders that are left out: we may not read them
    added: _Paths = ()
    added_from: Path | None = None

    @property
    def identity(self) -> str:
        """A key of the folder, machine and user: all runs from there share it."""
        place = f"{socket.gethostname()}:{os.getuid()}:{self.origin or self.folder}"
        return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def of_job(job: Job, added_from: Path | None = None) -> Source:
    """Return the source of a job, as `read` does. Raises InputError."""
    return read(Path(job.workdir), job.apart, job.include, added_from)


def again(source: Source, job: Job, added_from: Path | None = None) -> Source:
    """Return what a source of this job is now. Raises InputError."""
    if source.origin:
        return read_copy(source.folder, source.origin)
    return of_job(job, added_from)


def read(
    folder: Path,
    leave_out: tuple[str, ...] = (),
    include: tuple[str, ...] = (),
    added_from: Path | None = None,
) -> Source:
    """Return the source in ``folder``, without what .gitignore patterns in ``leave_out`` match, but with
    what ``include`` names: paths and globs, also of files that are ignored. All files of ``added_from``,
    if there is such a folder, belong to it, too.

    Raises InputError for a folder that is missing, or would copy everything, and for an ``include`` that
    names nothing in it.
    """
    folder = folder.resolve()
    _check(folder)
    ours = home().resolve()
    if ours.is_relative_to(folder):  # ~/.launcher changes during the run
        leave_out = (*leave_out, f"/{ours.relative_to(folder)}/")
    more = code_files.rules_from(leave_out) if leave_out else None
    closed: list[bytes] = []
    paths = code_files.without_environments(sorted(set(code_files.listed(folder, closed))))
    kept = {p for p in paths if not (more and more.match_file(os.fsdecode(p)))}
    kept.update(path for pattern in include for path in code_files.included(folder, pattern))
    added = _all_files(added_from) if added_from and added_from.is_dir() else ()
    kept = kept.difference(added)
    found = _measured(folder, sorted(kept), added=added, added_from=added_from if added else None)
    hidden = [p for p in closed if not (more and more.match_file(os.fsdecode(p) + "/"))]
    return replace(found, unreadable=tuple(sorted({*found.unreadable, *hidden})))


def read_copy(folder: Path, origin: Path) -> Source:
    """Return the source in a folder that holds a copy of ``origin``: all its files."""
    return replace(_measured(folder, _all_files(folder)), origin=origin.resolve())


def _all_files(folder: Path) -> _Paths:
    root = os.fsencode(folder)
    paths = (
        os.path.relpath(os.path.join(base, name), root)
        for base, folders, files in os.walk(root)
        for name in (*files, *(f for f in folders if os.path.islink(os.path.join(base, f))))
    )
    return tuple(sorted(paths))


def coarse_version(source: Source, grain: int) -> str:
    """Return the version of what a host has of a source, where times are multiples of ``grain``
    nanoseconds."""
    return _measured(source.folder, source.paths, grain, source.added, source.added_from).version


def _measured(
    folder: Path,
    paths: Iterable[bytes],
    grain: int = 1,
    added: _Paths = (),
    added_from: Path | None = None,
) -> Source:
    found = Fingerprint()
    kept, unreadable = [], []
    for path in sorted((*paths, *added)) if added else paths:
        is_added = path in added
        whole = os.path.join(os.fsencode(added_from if is_added and added_from else folder), path)
        try:
            status = os.lstat(whole)
        except (FileNotFoundError, NotADirectoryError):
            continue  # tracked by git, but deleted or replaced here
        except PermissionError:
            unreadable.append(path)
            continue
        if stat.S_ISLNK(status.st_mode):
            found.link(path, os.readlink(whole))
        elif stat.S_ISREG(status.st_mode) and not os.access(whole, os.R_OK):
            unreadable.append(path)
            continue
        elif stat.S_ISREG(status.st_mode):
            executable = bool(status.st_mode & stat.S_IXUSR)
            found.file(path, status.st_size, status.st_mtime_ns // grain * grain, executable)
        else:
            continue
        if not is_added:
            kept.append(path)
    return Source(
        folder,
        tuple(kept),
        found.hexdigest(),
        found.files,
        found.bytes,
        unreadable=tuple(unreadable),
        added=added,
        added_from=added_from,
    )


def newest(source: Source) -> str:
    """Return the file that was written last."""

    def written(path: bytes) -> int:
        try:
            return os.lstat(os.path.join(os.fsencode(source.folder), path)).st_mtime_ns
        except OSError:
            return 0

    return os.fsdecode(max(source.paths, key=written, default=b"?"))


def require(source: Source, script: str | None) -> None:
    """Raise InputError when a job's script is not among the files that are copied.

    Links count as what they lead to, as on the hosts: a link to outside leads nowhere there.
    """
    if script is None:
        return
    name = os.path.normpath(os.fsencode(script))
    root = os.fsencode(source.folder)
    whole = os.path.realpath(os.path.join(root, name))
    target = os.path.relpath(whole, root)
    is_link = whole != os.path.normpath(os.path.join(root, name))
    leads = f" leads to {os.fsdecode(whole)}, which" if is_link else ""
    if target == b".." or target.startswith(b"../"):
        if os.path.exists(whole) or is_link:
            raise InputError(
                f"{script}{leads} is outside the workdir {source.folder}, which is what is copied",
                "start launcher in the folder of the script, or name a workdir with --workdir",
            )
    elif target in source.paths:
        if name.startswith(b"../"):
            raise InputError(
                f"{script} goes out of the workdir {source.folder} and back, which hosts cannot",
                f"did you mean {os.fsdecode(target)}?",
            )
        if is_link:
            _require_way(source, name, script)
        return
    elif any((target + b"/").startswith(path + b"/") for path in source.unreadable):
        raise InputError(f"{script}{leads} cannot be read: Permission denied", f"ls -l {script}")
    elif os.path.exists(whole):
        raise InputError(
            f"{script}{leads} is not copied: .gitignore, .launcherignore or `outputs` leaves it out",
            f"--include {os.fsdecode(target)} copies it; git check-ignore -v says who leaves it out",
        )
    elif is_link:
        raise InputError(f"{script}{leads} does not exist", f"ls -l {script}")
    near = suggestion(script, [os.fsdecode(path) for path in source.paths])
    raise InputError(f"there is no {script} in {source.folder}", near or "is the workdir right?")


def _require_way(source: Source, name: bytes, script: str) -> None:
    """Raise InputError unless each link on the way to a script is copied, and means the same there."""
    root, seen = os.fsencode(source.folder), 0
    left, here = name.split(b"/")[::-1], b""
    while left and seen < 40:
        here = os.path.normpath(os.path.join(here, left.pop()))
        if not os.path.islink(os.path.join(root, here)):
            continue
        seen += 1
        target = os.readlink(os.path.join(root, here))
        link = os.fsdecode(here)
        if target.startswith(b"/"):
            raise InputError(
                f"{script} goes through {link}, a link to {os.fsdecode(target)}, which no host has",
                f"make it relative: ln -sr {os.fsdecode(target)} {link}",
            )
        if here not in source.paths:
            raise InputError(
                f"{script} goes through the link {link}, which is not copied: .gitignore, "
                ".launcherignore or `outputs` leaves it out",
                f"git check-ignore -v {link}",
            )
        left += target.split(b"/")[::-1]
        here = os.path.dirname(here)


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"workdir {folder} is not a folder", "set --workdir, or workdir: in the job file"
        )
    if folder in (Path("/"), Path.home().resolve()):
        raise InputError(
            f"workdir {folder} would copy everything in it",
            "change to the folder of the code, or pass it with --workdir",
        )


def describe_code(source: Source, revision: Revision) -> dict[str, Any]:
    """Return the contents of ``code.json``."""
    return {
        **formats.stamp(),
        "folder": str(source.origin or source.folder),
        "snapshot": source.version,
        "files": source.files,
        "bytes": source.bytes,
        "commit": revision.commit,
        "branch": revision.branch,
        "dirty": revision.dirty,
        "untracked": list(revision.untracked),
        "unreadable": [os.fsdecode(path) for path in source.unreadable],
    }
