"""The code of a run: the files of a folder that are not ignored, its commit, and its uncommitted diff.

In a git repository, git decides what is ignored; elsewhere ``.gitignore`` files are read with
pathspec. ``.launcherignore`` has the same notation and also applies to files that git tracks.
Environments of Python, which work nowhere else, and caches of its tools are never code. The program
that starts a run can add files to its code; no rule leaves them out.
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
from ...spec.errors import InputError, suggestion
from ...spec.files import open_plain
from ...spec.frozen import frozen
from ...spec.home import home
from ...spec.model import Job

if TYPE_CHECKING:
    import pathspec

IGNORE_FILE = ".launcherignore"
#: Never code, at any depth: git's own folder, Python's byte code, and caches of tools.
_NEVER = frozenset(
    {
        b".git",
        b"__pycache__",
        b".ipynb_checkpoints",
        b".mypy_cache",
        b".nox",
        b".pytest_cache",
        b".ruff_cache",
        b".tox",
    }
)
#: A folder with one of these is an environment of Python.
_OF_ENVIRONMENTS = (b"pyvenv.cfg", b"conda-meta/history")


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
    more = _rules(leave_out) if leave_out else None
    closed: list[bytes] = []
    paths = _without_environments(sorted(set(_files(folder, closed))))
    kept = {p for p in paths if not (more and more.match_file(os.fsdecode(p)))}
    kept.update(path for pattern in include for path in _included(folder, pattern))
    added = _all_files(added_from) if added_from and added_from.is_dir() else ()
    kept = kept.difference(added)
    found = _measured(folder, sorted(kept), added=added, added_from=added_from if added else None)
    hidden = [p for p in closed if not (more and more.match_file(os.fsdecode(p) + "/"))]
    return replace(found, unreadable=tuple(sorted({*found.unreadable, *hidden})))


def _included(folder: Path, pattern: str) -> Iterator[bytes]:
    """Yield the files that a path or a glob of ``include`` names; a folder means all that is in it."""
    wanted, root = os.path.normpath(pattern), os.fsencode(folder)
    if os.path.isabs(wanted) or wanted.split("/")[0] in ("..", "~"):
        raise InputError(
            f"--include {pattern}: it is outside the workdir {folder}, which is what is copied",
            "launcher push copies other folders to hosts; --workdir names another workdir",
        )
    names = [wanted] if os.path.lexists(folder / wanted) else _matching(folder, wanted)
    if not names:
        raise InputError(f"--include {pattern}: nothing in {folder} matches")
    for name in map(os.fsencode, names):
        whole = os.path.join(root, name)
        if os.path.isdir(whole) and not os.path.islink(whole):
            yield from _walk(root, b"" if name == b"." else name, _NO_RULES, [], nested=False)
        else:
            yield name


def _matching(folder: Path, pattern: str) -> list[str]:
    import glob  # few jobs include anything

    return glob.glob(pattern, root_dir=folder, recursive=True, include_hidden=True)


def _without_environments(paths: list[bytes]) -> list[bytes]:
    """Return the paths that are in no environment of Python below the folder."""
    roots = tuple(
        path[: -len(mark)]
        for path in paths
        for mark in _OF_ENVIRONMENTS
        if path.endswith(b"/" + mark)
    )
    return [path for path in paths if not path.startswith(roots)] if roots else paths


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


def _files(folder: Path, closed: list[bytes]) -> Iterator[bytes]:
    """Yield all files that are not ignored; add folders that may not be read to ``closed``."""
    tracked = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if tracked is None:
        yield from _walk(os.fsencode(folder), b"", [], closed)
        return
    yield from _brought_back(folder, tracked, closed)
    ignored = set(_lines(_launcher_ignored(folder))) if _has_rules(folder, tracked) else set()
    for path in _lines(tracked):
        if path in ignored or _NEVER.intersection(path.split(b"/")):
            continue
        whole = os.path.join(os.fsencode(folder), path)
        if os.path.isdir(whole) and not os.path.islink(whole):  # a submodule or another repository
            inner = path.rstrip(b"/")
            if inner in (b".", b""):  # a submodule that was never checked out
                continue
            below: list[bytes] = []
            yield from (inner + b"/" + name for name in _files(Path(os.fsdecode(whole)), below))
            closed += (inner + b"/" + name if name else inner for name in below)
        else:
            yield path


def _brought_back(folder: Path, tracked: bytes, closed: list[bytes]) -> Iterator[bytes]:
    """Yield files that git ignores and a .launcherignore brings back, as with ``!*.bin``.

    As with git, a file in an ignored folder needs a line for its folder, too (``!data/``).
    """
    root, name = os.fsencode(folder), os.fsencode(IGNORE_FILE)
    places = {b""} | {os.path.dirname(p) for p in _lines(tracked) if os.path.basename(p) == name}
    rules = [(place, own) for place in sorted(places) if (own := _brings_back(root, place))]
    if not rules:
        return
    ignored = _git(
        folder, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"
    )
    for path in _lines(ignored or b""):
        inner, is_folder = path.rstrip(b"/"), path.endswith(b"/")
        above = [rule for rule in rules if not rule[0] or path.startswith(rule[0] + b"/")]
        if _NEVER.intersection(inner.split(b"/")) or _verdict(inner, is_folder, above) is not False:
            continue
        if is_folder:
            yield from _walk(root, inner, above, closed, nested=False)
        else:
            yield inner


def _brings_back(root: bytes, folder: bytes) -> pathspec.GitIgnoreSpec | None:
    """Return the rules of a folder's .launcherignore if any line brings something back."""
    lines = _lines_of(os.path.join(root, folder, os.fsencode(IGNORE_FILE)))
    return _rules(lines) if any(line.startswith("!") for line in lines) else None


def _has_rules(folder: Path, tracked: bytes) -> bool:
    """Return whether any folder of these files, or one above, has a .launcherignore; git itself may
    ignore that."""
    folders = {b"", *map(os.fsencode, folder.parents)}
    for path in _lines(tracked):
        place = os.path.dirname(path)
        while place not in folders:
            folders.add(place)
            place = os.path.dirname(place)
    root, name = os.fsencode(folder), os.fsencode(IGNORE_FILE)
    return any(os.path.lexists(os.path.join(root, place, name)) for place in folders)


def _launcher_ignored(folder: Path) -> bytes:
    """Return files, tracked or not, that .launcherignore files leave out."""
    option = f"--exclude-per-directory={IGNORE_FILE}"
    listed = [_git(folder, "ls-files", "-z", "--ignored", kind, option) for kind in ("-c", "-o")]
    return b"".join(part for part in listed if part)


def _lines(output: bytes) -> list[bytes]:
    return [line for line in output.split(b"\0") if line]


#: A program that the repository's own settings name for this is not run.
_QUIETLY = ("-c", "core.fsmonitor=")
#: The uncommitted changes, as a patch; filters for display would make it something else.
_DIFF = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--relative")


def _git(folder: Path, *words: str) -> bytes | None:
    """Return what git prints; None without git or outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *_QUIETLY, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None


_Rules = list[tuple[bytes, "pathspec.GitIgnoreSpec"]]
_NO_RULES: _Rules = []


def _walk(
    root: bytes, folder: bytes, rules: _Rules, closed: list[bytes], nested: bool = True
) -> Iterator[bytes]:
    """Yield the files below a folder that no rule leaves out; ``nested`` files of rules count, too."""
    own = _rules_of(root, folder) if nested else None
    rules = [*rules, (folder, own)] if own else rules
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        closed.append(folder)
        return
    for entry in found:
        path = os.path.join(folder, entry.name)
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or _ignored(path, is_folder, rules):
            continue
        if is_folder:
            yield from _walk(root, path, rules, closed, nested)
        else:
            yield path


def _rules_of(root: bytes, folder: bytes) -> pathspec.GitIgnoreSpec | None:
    lines: list[str] = []
    for name in (b".gitignore", os.fsencode(IGNORE_FILE)):
        lines += _lines_of(os.path.join(root, folder, name))
    return _rules(lines) if lines else None


def _lines_of(path: bytes) -> list[str]:
    try:
        with open_plain(Path(os.fsdecode(path))) as file:
            return file.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def _rules(lines: Iterable[str]) -> pathspec.GitIgnoreSpec:
    import pathspec  # slow, and not needed in a repository for a job without outputs:

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(path: bytes, is_folder: bool, rules: _Rules) -> bool:
    return bool(_verdict(path, is_folder, rules))


def _verdict(path: bytes, is_folder: bool, rules: _Rules) -> bool | None:
    """Return whether the deepest file of rules that matches a path leaves it out; None: none does."""
    for folder, spec in reversed(rules):
        name = os.fsdecode(os.path.relpath(path, folder) if folder else path)
        verdict = spec.check_file(name + "/" if is_folder else name).include
        if verdict is not None:
            return bool(verdict)
    return None


@frozen
class Revision:
    """The state of the code in git; ``diff`` contains the uncommitted changes, of ``changed`` files."""

    commit: str = ""
    branch: str = ""
    dirty: bool = False
    untracked: tuple[str, ...] = ()
    diff: bytes = b""
    changed: tuple[str, ...] = ()


def revision(folder: Path) -> Revision:
    """Return the commit and the uncommitted changes of a folder; empty outside a repository."""
    head = _git(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return Revision()
    commit, _, branch = head.decode().strip().partition("\n")
    diff = _git(folder, *_DIFF, "--binary", "--no-color")
    changed = (_git(folder, *_DIFF, "--name-only", "-z") or b"") if diff else b""
    others = _git(folder, "ls-files", "-z", "--others", "--exclude-standard") or b""
    untracked = tuple(os.fsdecode(line) for line in _lines(others))
    return Revision(
        commit=commit,
        branch=branch,
        dirty=bool(diff or untracked),
        untracked=untracked,
        diff=diff or b"",
        changed=tuple(os.fsdecode(line) for line in _lines(changed)),
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
