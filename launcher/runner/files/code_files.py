"""Which files of a folder are code: those that are not ignored.

In a git repository, git decides what is ignored; elsewhere ``.gitignore`` files are read with
pathspec. ``.launcherignore`` has the same notation and also applies to files that git tracks.
Environments of Python, which work nowhere else, and caches of its tools are never code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...spec.errors import InputError
from ...spec.files import open_plain
from . import git

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


def listed(folder: Path, closed: list[bytes]) -> Iterator[bytes]:
    """Yield all files that are not ignored; add folders that may not be read to ``closed``."""
    tracked = git.output(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if tracked is None:
        yield from _walk(os.fsencode(folder), b"", [], closed)
        return
    yield from _brought_back(folder, tracked, closed)
    ignored = set(git.lines(_launcher_ignored(folder))) if _has_rules(folder, tracked) else set()
    for path in git.lines(tracked):
        if path in ignored or _NEVER.intersection(path.split(b"/")):
            continue
        whole = os.path.join(os.fsencode(folder), path)
        if os.path.isdir(whole) and not os.path.islink(whole):  # a submodule or another repository
            inner = path.rstrip(b"/")
            if inner in (b".", b""):  # a submodule that was never checked out
                continue
            below: list[bytes] = []
            yield from (inner + b"/" + name for name in listed(Path(os.fsdecode(whole)), below))
            closed += (inner + b"/" + name if name else inner for name in below)
        else:
            yield path


def _brought_back(folder: Path, tracked: bytes, closed: list[bytes]) -> Iterator[bytes]:
    """Yield files that git ignores and a .launcherignore brings back, as with ``!*.bin``.

    As with git, a file in an ignored folder needs a line for its folder, too (``!data/``).
    """
    root, name = os.fsencode(folder), os.fsencode(IGNORE_FILE)
    places = {b""} | {os.path.dirname(p) for p in git.lines(tracked) if os.path.basename(p) == name}
    rules = [(place, own) for place in sorted(places) if (own := _brings_back(root, place))]
    if not rules:
        return
    ignored = git.output(
        folder, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"
    )
    for path in git.lines(ignored or b""):
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
    return rules_from(lines) if any(line.startswith("!") for line in lines) else None


def _has_rules(folder: Path, tracked: bytes) -> bool:
    """Return whether any folder of these files, or one above, has a .launcherignore; git itself may
    ignore that."""
    folders = {b"", *map(os.fsencode, folder.parents)}
    for path in git.lines(tracked):
        place = os.path.dirname(path)
        while place not in folders:
            folders.add(place)
            place = os.path.dirname(place)
    root, name = os.fsencode(folder), os.fsencode(IGNORE_FILE)
    return any(os.path.lexists(os.path.join(root, place, name)) for place in folders)


def _launcher_ignored(folder: Path) -> bytes:
    """Return files, tracked or not, that .launcherignore files leave out."""
    option = f"--exclude-per-directory={IGNORE_FILE}"
    listed = [
        git.output(folder, "ls-files", "-z", "--ignored", kind, option) for kind in ("-c", "-o")
    ]
    return b"".join(part for part in listed if part)


def included(folder: Path, pattern: str) -> Iterator[bytes]:
    """Yield the files that a path or a glob of ``include`` names; a folder means all that is in it."""
    wanted, root = os.path.normpath(pattern), os.fsencode(folder)
    if os.path.isabs(wanted) or wanted.split("/")[0] in ("..", "~"):
        raise InputError(
            f"--include {pattern}: it is outside the workdir {folder}, which is what is copied",
            "launcher push copies other folders to hosts; --workdir names another workdir",
        )
    names = [wanted] if os.path.lexists(folder / wanted) else _matching(folder, wanted)
    if not names:
        raise InputError(
            f"--include {pattern}: nothing in {folder} matches",
            "give a path or a pattern relative to that folder; ** matches folders, too",
        )
    for name in map(os.fsencode, names):
        whole = os.path.join(root, name)
        if os.path.isdir(whole) and not os.path.islink(whole):
            yield from _walk(root, b"" if name == b"." else name, _NO_RULES, [], nested=False)
        else:
            yield name


def _matching(folder: Path, pattern: str) -> list[str]:
    import glob  # few jobs include anything

    return glob.glob(pattern, root_dir=folder, recursive=True, include_hidden=True)


def without_environments(paths: list[bytes]) -> list[bytes]:
    """Return the paths that are in no environment of Python below the folder."""
    roots = tuple(
        path[: -len(mark)]
        for path in paths
        for mark in _OF_ENVIRONMENTS
        if path.endswith(b"/" + mark)
    )
    return [path for path in paths if not path.startswith(roots)] if roots else paths


Rules = list[tuple[bytes, "pathspec.GitIgnoreSpec"]]
_NO_RULES: Rules = []


def _walk(
    root: bytes, folder: bytes, rules: Rules, closed: list[bytes], nested: bool = True
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
    return rules_from(lines) if lines else None


def _lines_of(path: bytes) -> list[str]:
    try:
        with open_plain(Path(os.fsdecode(path))) as file:
            return file.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def rules_from(lines: Iterable[str]) -> pathspec.GitIgnoreSpec:
    import pathspec  # slow, and not needed in a repository for a job without outputs:

    return pathspec.GitIgnoreSpec.from_lines(lines)


def _ignored(path: bytes, is_folder: bool, rules: Rules) -> bool:
    return bool(_verdict(path, is_folder, rules))


def _verdict(path: bytes, is_folder: bool, rules: Rules) -> bool | None:
    """Return whether the deepest file of rules that matches a path leaves it out; None: none does."""
    for folder, spec in reversed(rules):
        name = os.fsdecode(os.path.relpath(path, folder) if folder else path)
        verdict = spec.check_file(name + "/" if is_folder else name).include
        if verdict is not None:
            return bool(verdict)
    return None
