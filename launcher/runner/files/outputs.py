"""Fetch outputs from every host, and merge them without losing any.

Each host has a mirror of its own; ``outputs/`` is a view of all mirrors, made of hard links. A path that
several hosts wrote appears once if the contents are equal, and else once for each, with the host in
its name: ``metrics@gpu1.json``.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ...spec.errors import LauncherError, RecordError, SyncError
from ...spec.frozen import frozen
from ...spec.model import AUTO_BYTES
from ...transport import answers, rsync
from ...transport.agent_client import Agent
from ...transport.connection import Connection
from .choice import Choice

T = TypeVar("T")

#: Most bytes of a file's name on common file systems.
LONGEST_NAME = 255
#: A file of the run's folder: the links that ``outputs/`` has.
LINKS = "output-links.json"
#: Bytes that outputs leave free on this disk, or a twentieth of a small one.
RESERVE = 64 << 20


#: Links of a host: the path of each, and of what it leads to.
Links = Sequence[tuple[str, str]]


@frozen
class Listed:
    """The outputs on a host, ``{path: (size, time)}``, and the folder there that has them."""

    outputs: Mapping[str, tuple[int, int]]
    code: Mapping[str, tuple[int, int]]
    folder: str
    unreadable: tuple[tuple[str, str], ...] = ()  # what the host itself cannot read, and why
    links: tuple[tuple[str, str], ...] = ()  # to other outputs: path, and path of the target
    left_out: tuple[tuple[str, str], ...] = ()  # links to elsewhere, pipes, sockets, and why
    unlisted: int = 0  # more files than a host lists
    written: tuple[answers.Written, ...] = ()  # outside of the outputs, where that was asked for
    kept: tuple[int, int] = (0, 0)  # files, and their bytes, that the job keeps there

    @property
    def files(self) -> dict[str, tuple[int, int]]:
        """All files; those of the output folder win over those that the job names."""
        return {**self.code, **self.outputs}


async def listed(agent: Agent, run: str, choice: Choice, compare: bool = False) -> Listed:
    """Return what the run has written on a host, as chosen. Raises HostError.

    With ``compare``, also what it wrote outside of the outputs.
    """
    written = {"also": list(choice.also), "auto": AUTO_BYTES if choice.auto else 0}
    compare = compare or choice.compares
    answer = await agent.outputs(run, choice.paths, written if compare else None)
    found = [_inside(answer.files.outputs), _inside(answer.files.code)]
    chosen = [{path: files[path] for path in files if choice.has(path)} for files in found]
    kept = [files[path][0] for files in found for path in files if not choice.has(path)]
    return Listed(
        outputs=chosen[0],
        code=chosen[1],
        written=answer.written,
        kept=(len(kept), sum(kept)),
        folder=answer.folder,
        unreadable=answer.unreadable,
        links=tuple(link for link in answer.files.links if all(map(_is_plain, link))),
        left_out=answer.left_out,
        unlisted=answer.unlisted,
    )


def _inside(files: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Return the files that a host lists, without paths that would leave the folder here."""
    return {path: (size, time) for path, size, time in files if answers.is_inside(path)}


def _is_plain(path: str) -> bool:
    return answers.is_inside(path) and posixpath.normpath(path) == path != "."


#: Characters of a path in a sentence.
LONGEST_SHOWN = 120


@frozen
class Pulled:
    """What a copy has brought, in bytes; ``missing`` says what it could not bring, and why. A link to
    elsewhere is named there, too, but what it leads to was never an output: all is ``complete``."""

    received: int
    missing: str = ""
    complete: bool = True


#: Is told for how many bytes a copy has begun, and how many per cent of them have come.
Progress = Callable[[int, int], None]


async def pull(
    connection: Connection,
    host: str,
    what: Listed,
    mirror: Path,
    progress: Progress = lambda size, percent: None,
) -> Pulled:
    """Copy what is new or changed into the mirror, the small files first where not all of it fits.

    Raises HostError, or RecordError where this disk is full all the same.
    """
    received = 0
    missing = [f"{_short(name)} cannot be read there: {why}" for name, why in what.unreadable]
    if what.unlisted:
        missing.append(f"{what.unlisted} more files than launcher brings: pack them, as with tar")
    left_out = [f"{_short(name)} was left there: {why}" for name, why in what.left_out]
    for kind, files in (("code", what.code), ("outputs", what.outputs)):
        wanted = {path: files[path][0] for path in files if state_of(mirror / path) != files[path]}
        fitting = _fitting(wanted, _room(mirror))
        if too_much := wanted.keys() - set(fitting):
            missing.append(_no_room(too_much, wanted, mirror))
        if not fitting:
            continue
        try:
            copied = await rsync.copy(
                connection,
                host,
                [
                    "--times",
                    "--sparse",
                    "--partial-dir=.partial",
                    f"--temp-dir={_incoming(mirror).absolute()}",
                    f"x:{what.folder}/{kind}/",
                    f"{mirror}/",
                ],
                b"\0".join(map(os.fsencode, fitting)),
                partial(progress, sum(wanted[path] for path in fitting)),
            )
            received += copied.received
        except RecordError:
            _forget_partial(mirror)
            raise
        except SyncError as error:  # a file among them; the others have come
            missing.append(error.message)
    return Pulled(received, "; ".join([*missing, *left_out]), not missing)


def _incoming(mirror: Path) -> Path:
    """Return an empty folder for files that are not whole yet. An rsync that is killed leaves them:
    in the mirror they would be outputs. Raises RecordError."""
    folder = mirror.with_name("incoming")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RecordError(folder, error) from None
    return folder


def _short(path: str) -> str:
    """Return a path for a sentence: one of thousands of characters would fill the screen."""
    return path if len(path) <= LONGEST_SHOWN else f"{path[:40]}...{path[-(LONGEST_SHOWN - 43) :]}"


def not_here(what: Listed, mirror: Path) -> tuple[int, int]:
    """Return how many of the listed files are not in the mirror, and their bytes."""
    sizes = [state[0] for path, state in what.files.items() if state_of(mirror / path) != state]
    return len(sizes), sum(sizes)


def _fitting(sizes: Mapping[str, int], room: int) -> list[str]:
    """Return the files for which there is room, as many as possible."""
    if sum(sizes.values()) <= room:
        return list(sizes)
    found = []
    for path in sorted(sizes, key=lambda path: sizes[path]):
        room -= sizes[path]
        if room >= 0:
            found.append(path)
    return found


def _room(mirror: Path) -> int:
    """Return the bytes that outputs may take: records and logs need room, too."""
    try:
        disk = os.statvfs(mirror)
    except OSError:
        return sys.maxsize  # rsync will tell
    kept = min(RESERVE, disk.f_blocks * disk.f_frsize // 20)
    return max(0, disk.f_bavail * disk.f_frsize - kept)


def _no_room(paths: Collection[str], sizes: Mapping[str, int], mirror: Path) -> str:
    largest = max(sorted(paths), key=lambda path: sizes[path])
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    size = f"{sum(sizes[path] for path in paths) / 1e9:.1f} GB"
    return f"no room here for {largest}{others} ({size}; {_room(mirror) / 1e9:.1f} GB are free)"


def _forget_partial(mirror: Path) -> None:
    """Remove halves of files: they would keep the disk full."""
    for base, folders, _ in os.walk(mirror):
        if ".partial" in folders:
            shutil.rmtree(Path(base, ".partial"), ignore_errors=True)


def state_of(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file; (-1, -1) where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


class View(Protocol):
    """A folder that shows the outputs of all hosts: a run's own, or one that the user names."""

    @property
    def path(self) -> Path: ...
    @property
    def outputs(self) -> Path: ...
    def mirror(self, host: str) -> Path: ...
    def read_as(self, kind: type[T], name: str) -> T | None: ...
    def write(self, name: str, value: Any) -> None: ...


@frozen
class Output:
    """A file of the view: its path, its size in bytes, and the hosts that wrote it."""

    path: str
    size: int
    hosts: tuple[str, ...]


def lay_together(
    folder: View,
    hosts: tuple[str, ...],
    without: Mapping[str, Collection[str]] = MappingProxyType({}),
    links: Mapping[str, Links] = MappingProxyType({}),
) -> tuple[Output, ...]:
    """Make ``outputs/`` a view of all mirrors. Files that a user put there stay as they are.

    ``without`` are files, by host, that are left out because another host has newer ones; ``links``,
    by host, lead from one path to another. They are made in the view alone: no copy goes through them.
    Raises LauncherError when they cannot be written.
    """
    before = _before(folder)
    mirrors = {host: folder.mirror(host) for host in hosts}
    by_path = _owners(mirrors, without)
    linked = [name for host in hosts for name, _ in links.get(host, ())]
    folders = {
        parent.as_posix() for path in (*by_path, *linked) for parent in PurePosixPath(path).parents
    }
    taken = folders | {
        path for path in files_of(folder.outputs) if path not in before
    }  # the user's
    used = set(by_path) | taken
    found, names = [], {}
    for path in sorted(by_path):
        for name, group in _names(mirrors, path, by_path[path], used, taken):
            if linked:
                names.update({(host, path): name for host in group})
            size = os.stat(mirrors[group[0]] / path).st_size
            found.append((Output(name, size, group), path))
    try:
        made = _links_of({host: links.get(host, ()) for host in hosts}, names, used)
        del by_path, used, taken, folders, names  # there may be a million files
        _remove_links(folder, without=made)
        _link(folder, mirrors, found, before)
        _make_links(folder, made)
    except OSError as error:
        raise LauncherError(
            f"cannot write outputs to {folder.outputs}: {error.strerror}",
            f"everything that was fetched is in {folder.path}/.hosts",
        ) from None
    return tuple(output for output, _ in found)


def _owners(
    mirrors: Mapping[str, Path], without: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Return by path the hosts that have a file, but for those of ``without``."""
    found: dict[str, tuple[str, ...]] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal ones are one: few differ
    for host, mirror in mirrors.items():
        left_out = without.get(host, ())
        for path in files_of(mirror):
            if path not in left_out:
                owners = (*found.get(path, ()), host)
                found[path] = shared.setdefault(owners, owners)
    return found


def _links_of(
    links: Mapping[str, Links], names: Mapping[tuple[str, str], str], used: set[str]
) -> dict[str, str]:
    """Return the links of the view, from path to path; ``names`` are those of files in it, by host and
    path there. A link that leads to none of them is left out."""
    folders = {
        (host, parent.as_posix()) for host, path in names for parent in PurePosixPath(path).parents
    }
    wanted: dict[str, dict[str, str]] = {}  # by path: each target, with its first host
    for host, pairs in links.items():
        for name, target in pairs:
            there = names.get((host, target), target if (host, target) in folders else None)
            if there is not None:
                wanted.setdefault(name, {}).setdefault(there, host)
    made = {}
    for name, targets in sorted(wanted.items()):
        is_one = len(targets) == 1 and name not in used
        for target, host in targets.items():
            made[name if is_one else marked(name, host, used)] = target
    return made


def _remove_links(folder: View, without: Mapping[str, str]) -> None:
    """Remove links that an earlier view had, but for those that are to stay."""
    for path, target in (folder.read_as(dict[str, str], LINKS) or {}).items():
        if without.get(path) != target and (folder.outputs / path).is_symlink():
            _remove(folder.outputs, path)


def _make_links(folder: View, links: Mapping[str, str]) -> None:
    if links or (folder.path / LINKS).exists():
        folder.write(LINKS, dict(links))
    for path, target in links.items():
        place = folder.outputs / path
        if place.is_symlink():
            continue
        with suppress(OSError):  # a name that this file system does not take costs itself alone
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, PurePosixPath(path).parent))


def files_of(mirror: Path) -> list[str]:
    """Return the paths of all complete files of a mirror."""
    found = []
    for base, folders, files in os.walk(mirror):
        folders[:] = [name for name in folders if name != ".partial"]
        inside = os.path.relpath(base, mirror)
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in files if _is_file(f"{base}/{name}")]
    return found


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _names(
    mirrors: Mapping[str, Path],
    path: str,
    owners: tuple[str, ...],
    used: set[str],
    taken: set[str],
) -> list[tuple[str, tuple[str, ...]]]:
    """Return ``(name here, hosts)`` for each different content of one path."""
    groups = _equal(mirrors, path, owners) if len(owners) > 1 else [owners]
    if len(groups) == 1 and path not in taken:
        return [(path, owners)]
    return [(marked(path, group[0], used), group) for group in groups]


def _equal(
    mirrors: Mapping[str, Path], path: str, owners: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Return the hosts in groups that have the same content."""
    import filecmp  # only needed here, for a path of several hosts

    groups: list[list[str]] = []
    for host in owners:
        mine = mirrors[host] / path
        for group in groups:
            if filecmp.cmp(mirrors[group[0]] / path, mine, shallow=False):
                group.append(host)
                break
        else:
            groups.append([host])
    return [tuple(group) for group in groups]


def marked(path: str, host: str, used: set[str]) -> str:
    """Return a path with the name of a host in it, which is none of those ``used``, and add it."""
    pure = PurePosixPath(path)
    stem = pure.name[: -len(pure.suffix)] if pure.suffix else pure.name
    while len(os.fsencode(f"{stem}@{host}{pure.suffix}")) > LONGEST_NAME and stem:
        stem = stem[:-1]
    name = str(pure.with_name(f"{stem}@{host}{pure.suffix}"))
    while name in used:
        pure = PurePosixPath(name)
        name = str(pure.with_name(f"{pure.stem}@{host}{pure.suffix}"))
    used.add(name)
    return name


def _link(
    folder: View,
    mirrors: Mapping[str, Path],
    files: list[tuple[Output, str]],
    before: set[str],
) -> None:
    """Link files, ``(output, path of its host)``, into the view, and remove those of ``before``."""
    for path in before.difference(output.path for output, _ in files):
        _remove(folder.outputs, path)
    for output, path in files:
        source, target = mirrors[output.hosts[0]] / path, folder.outputs / output.path
        if target.exists() and os.path.samefile(source, target):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)
    folder.write(
        "outputs.json",
        [{"path": o.path, "size": o.size, "hosts": o.hosts} for o, _ in files],
    )


def _remove(root: Path, path: str) -> None:
    """Remove a file of ours, and the folders that are empty then."""
    (root / path).unlink(missing_ok=True)
    for parent in (root / path).parents:
        if parent == root:
            return
        try:
            parent.rmdir()
        except OSError:
            return


@frozen
class _Before:
    """What is needed of an entry that an earlier view has left."""

    path: str = ""


def _before(folder: View) -> set[str]:
    """Return the paths in the view when it was last made."""
    known = folder.read_as(tuple[_Before, ...], "outputs.json") or ()
    return {entry.path for entry in known} - {""}
