"""Merges the mirrors of all hosts into one folder, without losing any file.

``outputs/`` is a view of all mirrors, made of hard links. A path that several hosts wrote appears once
if the contents are equal, and else once for each, with the host in its name: ``metrics@gpu1.json``.
"""

from __future__ import annotations

import heapq
import json
import os
import stat
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, repeat
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ...spec.errors import LauncherError
from ...spec.files import open_plain
from ...spec.frozen import frozen
from ...spec.packed import PackedNames, Rows
from .mirrors import walk, walked

T = TypeVar("T")

#: Most bytes of a file's name on common file systems.
LONGEST_NAME = 255
#: A file of the run's folder: the links that ``outputs/`` has.
LINKS = "output-links.json"
#: Links of a host: the path of each, and of what it leads to.
Links = Sequence[tuple[str, str]]


class View(Protocol):
    """A folder that shows the outputs of all hosts: a run's own, or one that the user names."""

    @property
    def path(self) -> Path: ...
    @property
    def outputs(self) -> Path: ...
    def mirror(self, host: str) -> Path: ...
    def read_as(self, kind: type[T], name: str) -> T | None: ...
    def write(self, name: str, value: object) -> None: ...


@frozen
class Output:
    """A file of the view: its path, its size in bytes, and the hosts that wrote it."""

    path: str
    size: int
    hosts: tuple[str, ...]


class Outputs:
    """The files of a view, packed."""

    def __init__(self) -> None:
        self.names = PackedNames()
        self._sizes, self._groups = array("q"), array("I")
        self._hosts: dict[tuple[str, ...], int] = {}  # few groups differ

    def add(self, output: Output) -> None:
        """Add a file, while the view is made."""
        self.names.add(output.path)
        self._sizes.append(output.size)
        self._groups.append(self._hosts.setdefault(output.hosts, len(self._hosts)))

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Output]:
        hosts = list(self._hosts)
        for name, size, group in zip(self.names, self._sizes, self._groups, strict=True):
            yield Output(name, size, hosts[group])

    @property
    def total(self) -> int:
        """The sizes of all together."""
        return sum(self._sizes)

    @property
    def rows(self) -> Rows[Mapping[str, Any]]:
        """The same as JSON values."""
        return Rows(len(self), lambda: map(vars, self))


def lay_together(
    folder: View,
    hosts: tuple[str, ...],
    without: Mapping[str, Collection[str]] = MappingProxyType({}),
    links: Mapping[str, Links] = MappingProxyType({}),
) -> Outputs:
    """Make ``outputs/`` a view of all mirrors. Files that a user put there stay as they are.

    ``without`` are files, by host, that are left out because another host has newer ones; ``links``,
    by host, lead from one path to another. They are made in the view alone: no copy goes through them.
    Raises LauncherError when they cannot be written.
    """
    before = _before(folder)
    mirrors = {host: folder.mirror(host) for host in hosts}
    linked = [name for host in hosts for name, _ in links.get(host, ())]
    users = {path for path in walk(folder.outputs) if path not in before}
    used = _Used(mirrors.values(), _folders(mirrors.values(), linked) | users | _parents_of(users))
    found, names = Outputs(), {}
    elsewhere: dict[str, str] = {}  # paths in the mirrors of files with another name in the view
    for path, owners in _owners(mirrors, without):
        for name, group in _names(mirrors, path, owners, used):
            if linked:
                names.update({(host, path): name for host in group})
            if name != path:
                elsewhere[name] = path
            found.add(Output(name, os.stat(f"{mirrors[group[0]]}/{path}").st_size, group))
    try:
        made = _links_of({host: links.get(host, ()) for host in hosts}, names, used)
        _remove_links(folder, without=made)
        for path in before:
            if path not in found.names:
                _remove(folder.outputs, path)
        _link(folder, mirrors, found, elsewhere)
        _make_links(folder, made)
    except OSError as error:
        raise LauncherError(
            f"cannot write outputs to {error.filename2 or error.filename or folder.outputs}: "
            f"{error.strerror}",
            f"everything that was fetched is in {folder.path}/.hosts",
        ) from None
    return found


class Names(Protocol):
    """Names that are in use."""

    def __contains__(self, name: str) -> bool: ...
    def add(self, name: str) -> None: ...


class _Used:
    """Names that no other file of a view can have."""

    def __init__(self, mirrors: Iterable[Path], taken: set[str]) -> None:
        self.taken = taken  # by folders, and by files of the user
        self._mirrors, self._made = tuple(map(str, mirrors)), set[str]()

    def __contains__(self, name: str) -> bool:
        if name in self.taken or name in self._made:
            return True
        return any(_is_file(f"{mirror}/{name}") for mirror in self._mirrors)

    def add(self, name: str) -> None:
        """Add a name that was made."""
        self._made.add(name)


def _owners(
    mirrors: Mapping[str, Path], without: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each path with the hosts that have a file there, but for those of ``without``."""
    hosts = tuple(mirrors)
    walks = [
        zip(walked(os.fsencode(mirror)), repeat(index))
        for index, mirror in enumerate(mirrors.values())
    ]
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal ones are one: few differ
    for raw, group in groupby(heapq.merge(*walks), key=lambda one: one[0]):
        path = os.fsdecode(raw)
        owners = tuple(
            hosts[index] for _, index in group if path not in without.get(hosts[index], ())
        )
        if owners:
            yield path, shared.setdefault(owners, owners)


def _folders(mirrors: Iterable[Path], linked: Iterable[str]) -> set[str]:
    """Return the folders of a view."""
    found = _parents_of(linked)
    for mirror in mirrors:
        last = ""
        for path in walk(mirror):
            if (folder := os.path.dirname(path)) != last:
                last = folder
                found.update(parent.as_posix() for parent in PurePosixPath(path).parents)
    return found


def _parents_of(paths: Iterable[str]) -> set[str]:
    return {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}


def _links_of(
    links: Mapping[str, Links], names: Mapping[tuple[str, str], str], used: _Used
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


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _names(
    mirrors: Mapping[str, Path],
    path: str,
    owners: tuple[str, ...],
    used: _Used,
) -> list[tuple[str, tuple[str, ...]]]:
    """Return ``(name here, hosts)`` for each different content of one path."""
    groups = _equal(mirrors, path, owners) if len(owners) > 1 else [owners]
    if len(groups) == 1 and path not in used.taken:
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


def marked(path: str, host: str, used: Names) -> str:
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
    folder: View, mirrors: Mapping[str, Path], found: Outputs, elsewhere: Mapping[str, str]
) -> None:
    """Link all files into the view."""
    places = {host: str(mirror) for host, mirror in mirrors.items()}
    for output in found:
        source = f"{places[output.hosts[0]]}/{elsewhere.get(output.path, output.path)}"
        target = f"{folder.outputs}/{output.path}"
        if os.path.exists(target) and os.path.samefile(source, target):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _make_room(target)
        os.link(source, target)
    folder.write("outputs.json", found.rows)


def _make_room(target: str) -> None:
    """Remove a file of an earlier view, or an empty folder."""
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass
    except OSError:
        if not os.path.isdir(target):
            raise
        os.rmdir(target)


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


#: How a line of ``outputs.json`` begins that has a path.
_PATH = b'    "path": '


def _before(folder: View) -> PackedNames:
    """Return the paths in the view when it was last made: read by line, as the file is written."""
    found = PackedNames()
    with suppress(OSError, ValueError), open_plain(folder.path / "outputs.json") as file:
        for line in file:
            if line.startswith(_PATH):
                found.add(str(json.loads(line[len(_PATH) :].rstrip().rstrip(b","))))
    return found
