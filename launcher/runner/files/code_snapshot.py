"""The code of a run: the files of a folder that are not ignored, its commit, and its uncommitted diff.

In a git repository, git decides what is ignored; elsewhere ``.gitignore`` files are read with
pathspec. ``.launcherignore`` has the same notation and also applies to files that git tracks.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...agent.base.protocol import Fingerprint
from ...records import formats
from ...records.run_folder import home
from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen

if TYPE_CHECKING:
    import pathspec

IGNORE_FILE = ".launcherignore"
#: Never code, at any depth: git's own folder and Python's byte code.
_NEVER = frozenset({b".git", b"__pycache__"})


@frozen
class Source:
    """The files of a folder at one moment. ``paths`` are relative, as bytes, and sorted."""

    folder: Path
    paths: tuple[bytes, ...]
    version: str
    files: int
    bytes: int
    origin: Path | None = None  # where it was read first, when ``folder`` holds a copy

    @property
    def identity(self) -> str:
        """A key of the folder, machine and user: all runs from there share it."""
        place = f"{socket.gethostname()}:{os.getuid()}:{self.origin or self.folder}"
        return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read(folder: Path, leave_out: tuple[str, ...] = ()) -> Source:
    """Return the source in ``folder``, without what .gitignore patterns in ``leave_out`` match.

    Raises InputError for a folder that is missing, or would copy everything.
    """
    folder = folder.resolve()
    _check(folder)
    ours = home().resolve()
    if ours.is_relative_to(folder):  # ~/.launcher changes during the run
        leave_out = (*leave_out, f"/{ours.relative_to(folder)}/")
    more = _rules(leave_out) if leave_out else None
    paths = sorted(set(_files(folder)))
    return _measured(folder, [p for p in paths if not (more and more.match_file(os.fsdecode(p)))])


def read_copy(folder: Path, origin: Path) -> Source:
    """Return the source in a folder that holds a copy of ``origin``: all its files."""
    root = os.fsencode(folder)
    paths = [
        os.path.relpath(os.path.join(base, name), root)
        for base, folders, files in os.walk(root)
        for name in (*files, *(f for f in folders if os.path.islink(os.path.join(base, f))))
    ]
    return replace(_measured(folder, sorted(paths)), origin=origin.resolve())


def _measured(folder: Path, paths: Iterable[bytes]) -> Source:
    found = Fingerprint()
    kept = []
    for path in paths:
        try:
            status = os.lstat(os.path.join(os.fsencode(folder), path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # tracked by git, but deleted or replaced here
        if stat.S_ISLNK(status.st_mode):
            found.link(path, os.readlink(os.path.join(os.fsencode(folder), path)))
        elif stat.S_ISREG(status.st_mode):
            executable = bool(status.st_mode & stat.S_IXUSR)
            found.file(path, status.st_size, status.st_mtime_ns, executable)
        else:
            continue
        kept.append(path)
    return Source(folder, tuple(kept), found.hexdigest(), found.files, found.bytes)


def newest(source: Source) -> str:
    """Return the file that was written last."""

    def written(path: bytes) -> int:
        try:
            return os.lstat(os.path.join(os.fsencode(source.folder), path)).st_mtime_ns
        except OSError:
            return 0

    return os.fsdecode(max(source.paths, key=written, default=b"?"))


def require(source: Source, script: str | None) -> None:
    """Raise InputError when a job's script is not among the files that are copied."""
    if script is None or os.path.normpath(os.fsencode(script)) in source.paths:
        return
    if (source.folder / script).exists():
        if not (source.folder / script).resolve().is_relative_to(source.folder.resolve()):
            raise InputError(
                f"{script} is outside the workdir {source.folder}, which is what is copied",
                "start launcher in the folder of the script, or name a workdir with --workdir",
            )
        raise InputError(
            f"{script} is not copied: .gitignore, .launcherignore or `outputs` leaves it out",
            f"git check-ignore -v {script}",
        )
    near = suggestion(script, [os.fsdecode(path) for path in source.paths])
    raise InputError(f"there is no {script} in {source.folder}", near or "is the workdir right?")


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


def _files(folder: Path) -> Iterator[bytes]:
    tracked = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if tracked is None:
        yield from _walk(os.fsencode(folder), b"", [])
        return
    ignored = set(_lines(_launcher_ignored(folder)))
    for path in _lines(tracked):
        if path in ignored or _NEVER.intersection(path.split(b"/")):
            continue
        whole = os.path.join(os.fsencode(folder), path)
        if os.path.isdir(whole) and not os.path.islink(whole):  # a submodule or another repository
            inner = path.rstrip(b"/")
            if inner in (b".", b""):  # a submodule that was never checked out
                continue
            yield from (inner + b"/" + name for name in _files(Path(os.fsdecode(whole))))
        else:
            yield path


def _launcher_ignored(folder: Path) -> bytes:
    """Return files, tracked or not, that .launcherignore files leave out."""
    option = f"--exclude-per-directory={IGNORE_FILE}"
    listed = [_git(folder, "ls-files", "-z", "--ignored", kind, option) for kind in ("-c", "-o")]
    return b"".join(part for part in listed if part)


def _lines(output: bytes) -> list[bytes]:
    return [line for line in output.split(b"\0") if line]


def _git(folder: Path, *words: str) -> bytes | None:
    """Return what git prints; None without git or outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None


_Rules = list[tuple[bytes, "pathspec.GitIgnoreSpec"]]


def _walk(root: bytes, folder: bytes, rules: _Rules) -> Iterator[bytes]:
    """Yield the files below a folder outside a repository that no .gitignore file leaves out."""
    own = _rules_of(root, folder)
    rules = [*rules, (folder, own)] if own else rules
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = os.path.join(folder, entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in _NEVER or _ignored(path, is_folder, rules):
                continue
            if is_folder:
                yield from _walk(root, path, rules)
            else:
                yield path


def _rules_of(root: bytes, folder: bytes) -> pathspec.GitIgnoreSpec | None:
    lines: list[str] = []
    for name in (b".gitignore", os.fsencode(IGNORE_FILE)):
        try:
            lines += (
                Path(os.fsdecode(os.path.join(root, folder, name)))
                .read_text("utf-8", "surrogateescape")
                .splitlines()
            )
        except OSError:
            continue
    return _rules(lines) if lines else None


def _rules(lines: Iterable[str]) -> pathspec.GitIgnoreSpec:
    import pathspec  # slow, and not needed in a repository for a job without outputs:

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(path: bytes, is_folder: bool, rules: _Rules) -> bool:
    """Return the verdict of the deepest .gitignore file that matches the path."""
    for folder, spec in reversed(rules):
        name = os.fsdecode(os.path.relpath(path, folder) if folder else path)
        verdict = spec.check_file(name + "/" if is_folder else name).include
        if verdict is not None:
            return bool(verdict)
    return False


@frozen
class Revision:
    """The state of the code in git; ``diff`` contains the uncommitted changes."""

    commit: str = ""
    branch: str = ""
    dirty: bool = False
    untracked: tuple[str, ...] = ()
    diff: bytes = b""


def revision(folder: Path) -> Revision:
    """Return the commit and the uncommitted changes of a folder; empty outside a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Revision()
    diff = _git(folder, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--relative")
    others = _git(folder, "ls-files", "-z", "--others", "--exclude-standard") or b""
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or b""
    untracked = tuple(os.fsdecode(line) for line in _lines(others))
    return Revision(
        commit=commit.decode().strip(),
        branch=branch.decode().strip(),
        dirty=bool(diff or untracked),
        untracked=untracked,
        diff=diff or b"",
    )


def describe_code(source: Source, revision: Revision) -> dict[str, Any]:
    """Return the contents of ``code.json``."""
    return {
        **formats.stamp(),
        "folder": str(source.folder),
        "snapshot": source.version,
        "files": source.files,
        "bytes": source.bytes,
        "commit": revision.commit,
        "branch": revision.branch,
        "dirty": revision.dirty,
        "untracked": list(revision.untracked),
    }
