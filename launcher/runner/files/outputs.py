"""Fetch outputs from every host, and merge them without losing any.

Each host has a mirror of its own; ``outputs/`` is a view of all mirrors, made of hard links. A path that
several hosts wrote appears once if the contents are equal, and else once for each, with the host in
its name: ``metrics@gpu1.json``.
"""

from __future__ import annotations

import heapq
import json
import os
import posixpath
import shutil
import stat
import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from itertools import chain, groupby, repeat
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ...spec.errors import LauncherError, RecordError, SyncError
from ...spec.files import open_plain
from ...spec.frozen import frozen
from ...spec.model import AUTO_BYTES, is_elsewhere
from ...spec.packed import LARGEST, PackedFiles, PackedNames, Rows
from ...transport import rsync
from ...transport.agent_client import Agent
from ...transport.answers.outputs import Written, is_inside
from ...transport.connection import Connection
from ..policy.spares import named
from .choice import Choice

T = TypeVar("T")

#: Most bytes of a file's name on common file systems.
LONGEST_NAME = 255
#: A file of the run's folder: the links that ``outputs/`` has.
LINKS = "output-links.json"
#: Bytes that outputs leave free on this disk, or a twentieth of a small one.
RESERVE = 64 << 20


#: Among the outputs: the folders of what is outside of the run's folder, below / and at home.
ROOT, HOME = "_root", "_home"
#: The folder in which rsync keeps a file of which it has a half.
PARTIAL = ".partial"

#: Links of a host: the path of each, and of what it leads to.
Links = Sequence[tuple[str, str]]


@frozen
class Listed:
    """The outputs on a host, and the folder there that has them."""

    outputs: PackedFiles
    code: PackedFiles
    folder: str
    unreadable: tuple[tuple[str, str], ...] = ()  # what the host itself cannot read, and why
    links: tuple[tuple[str, str], ...] = ()  # to other outputs: path, and path of the target
    left_out: tuple[tuple[str, str], ...] = ()  # links to elsewhere, pipes, sockets, and why
    unlisted: int = 0  # more files than a host lists
    written: tuple[Written, ...] = ()  # outside of the outputs, where that was asked for
    kept: tuple[int, int] = (0, 0)  # files, and their bytes, that the job keeps there
    left: tuple[str, ...] = ()  # patterns of outputs that the job keeps there
    elsewhere: PackedFiles = field(default_factory=PackedFiles)  # outside of the run's folder
    #: Where those are: the path among the outputs, and the real folder.
    places: tuple[tuple[str, str], ...] = ()

    same: tuple[tuple[str, str], ...] = ()  # names of one file: one of them, and the first one

    @property
    def files(self) -> Iterator[tuple[str, int, int]]:
        """All files; those of the output folder win over those that the job names."""
        return (one for _, _, one in self.located)

    @property
    def located(self) -> Iterator[tuple[str, str, tuple[str, int, int]]]:
        """All files with where they are: in ``outputs`` or ``code`` of the run there, or in a folder
        outside of it, which is an absolute path; and their paths below that."""
        yield from (("outputs", one[0], one) for one in self.outputs)
        named = set(self.outputs.paths) if len(self.code) else ()
        yield from (("code", one[0], one) for one in self.code if one[0] not in named)
        for shown, place, files in self._outside():
            yield from ((place, one[0][len(shown) + 1 :], one) for one in files)

    @property
    def sources(self) -> Iterator[tuple[str, str, PackedFiles]]:
        """The folders to copy from: each with its path among the outputs, and the files below it."""
        yield "", f"{self.folder}/code", self.code
        yield "", f"{self.folder}/outputs", self.outputs
        yield from ((f"{shown}/", place, files) for shown, place, files in self._outside())

    def _outside(self) -> Iterator[tuple[str, str, PackedFiles]]:
        """Yield each folder outside of the run's: its path among the outputs, its own, and its files."""
        left = self.elsewhere
        for shown, place in sorted(self.places, key=lambda one: -len(one[0])):
            below = partial(_is_below, f"{shown}/")
            yield shown, place, left.only(below)
            left = left.only(lambda *one, below=below: not below(*one))


async def listed(
    agent: Agent, run: str, choice: Choice, compare: bool = False, received: bool = False
) -> Listed:
    """Return what the run has written on a host, as chosen. Raises HostError.

    With ``compare``, also what it wrote outside of the outputs; with ``received``, what other hosts have
    written in shared folders.
    """
    written = {"also": list(choice.also), "auto": AUTO_BYTES if choice.auto else 0}
    compare = compare or choice.compares
    answer, files = await agent.outputs(
        run, choice.paths, written if compare else None, received, choice.elsewhere
    )
    found = [files.outputs, files.code, files.elsewhere]
    chosen = found
    if not choice.has_all:
        chosen = [each.only(lambda path, *_: choice.has(path)) for each in found]
    outputs, code, elsewhere = chosen
    return Listed(
        outputs=outputs,
        code=code,
        elsewhere=elsewhere,
        places=answer.places,
        same=tuple(pair for pair in files.same if all(map(_is_plain, pair))),
        written=answer.written,
        left=() if choice.has_all else tuple(_matching((*choice.paths, *choice.elsewhere), found)),
        kept=(
            sum(map(len, found)) - sum(map(len, chosen)),
            sum(each.total for each in found) - sum(each.total for each in chosen),
        ),
        folder=answer.folder,
        unreadable=answer.unreadable,
        links=tuple(link for link in files.links if all(map(_is_plain, link))),
        left_out=answer.left_out,
        unlisted=answer.unlisted,
    )


def _is_plain(path: str) -> bool:
    return is_inside(path) and posixpath.normpath(path) == path != "."


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
    twins = _twins(what)
    for inside, source, listed in what.sources:
        files = listed.only(lambda path, *_: not _is_among_halves(path))
        if taken := len(listed) - len(files):
            missing.append(f"{taken} in folders named {PARTIAL}: rsync has its own there")
        wanted = files.only(partial(_differs, str(mirror)))
        wanted = wanted.only(lambda path, *_: path not in twins)
        room = _room(mirror)
        fitting = wanted if wanted.total <= room else wanted.smallest(room)
        if len(fitting) < len(wanted):
            missing.append(_no_room(wanted, fitting, mirror))
        if not len(fitting):
            continue
        target = mirror / inside
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(target, error) from None
        try:
            copied = await rsync.copy(
                connection,
                host,
                [
                    "--times",
                    "--sparse",
                    f"--partial-dir={PARTIAL}",
                    f"--temp-dir={_incoming(mirror).absolute()}",
                    f"x:{source.rstrip('/')}/",
                    f"{target}/",
                ],
                _names_below(inside, fitting),
                partial(progress, fitting.total),
            )
            received += copied.received
        except RecordError:
            _forget_partial(mirror)
            raise
        except SyncError as error:  # a file among them; the others have come
            missing.append(error.message)
    _link_twins(what, mirror, twins)
    return Pulled(received, "; ".join([*missing, *left_out]), not missing)


def _twins(what: Listed) -> dict[str, str]:
    """Return other names of listed files, each with the name by which the file is copied."""
    if not what.same:
        return {}
    listed = set(what.outputs.paths) | set(what.code.paths)
    chosen: dict[str, str] = {}
    found = {}
    for name, first in what.same:
        if name in listed:
            leader = chosen.setdefault(first, first if first in listed else name)
            if leader != name:
                found[name] = leader
    return found


def _link_twins(what: Listed, mirror: Path, twins: Mapping[str, str]) -> None:
    """Give files that have come their other names. Raises RecordError."""
    if not twins:
        return
    states = {path: (size, time) for path, size, time in what.files}
    for name, leader in twins.items():
        source, target = mirror / leader, mirror / name
        if state_of(source) != states.get(leader) or _is_one(source, target):
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            half = _incoming(mirror) / "twin"
            os.link(source, half)
            half.replace(target)
        except OSError as error:
            raise RecordError(target, error) from None


def _is_one(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        return False


def _is_below(folder: str, path: str, size: int, time: int) -> bool:
    return path.startswith(folder)


def _names_below(folder: str, files: PackedFiles) -> bytes:
    """Return their paths below a folder, as rsync reads them."""
    if not folder:
        return files.names
    return PackedFiles((path[len(folder) :], size, time) for path, size, time in files).names


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


def has_written(what: Listed, pattern: str) -> bool:
    """Return whether a host has a file or a link that the job calls an output by this pattern."""
    files = what.elsewhere if is_elsewhere(pattern) else what.code
    links = (link for link, _ in what.links)
    return pattern in what.left or _names_any(pattern, chain(files.paths, links))


def _matching(patterns: Iterable[str], files: Sequence[PackedFiles]) -> Iterator[str]:
    """Yield the patterns that name any of these files."""
    for pattern in patterns:
        if _names_any(pattern, chain.from_iterable(each.paths for each in files)):
            yield pattern


def _names_any(pattern: str, paths: Iterable[str]) -> bool:
    shown = pattern
    if is_elsewhere(pattern):
        shown = HOME + pattern[1:] if pattern.startswith("~") else ROOT + pattern
    return any(named(path, [shown]) for path in paths)


def not_here(what: Listed, mirror: Path) -> tuple[int, int]:
    """Return how many of the listed files are not in the mirror, and their bytes."""
    count = total = 0
    for path, size, time in what.files:
        if _differs(str(mirror), path, size, time):
            count, total = count + 1, total + size
    return count, total


def absent(what: Listed, mirror: Path) -> int:
    """Return how many of the listed files have no version in the mirror at all."""
    return sum(state_of(f"{mirror}/{path}") == NOWHERE for path, _, _ in what.files)


def _is_among_halves(path: str) -> bool:
    """Return whether a file is where rsync keeps halves of files, and so refuses others."""
    return PARTIAL in path and PARTIAL in path.split("/")[:-1]


def _differs(mirror: str, path: str, size: int, time: int) -> bool:
    """Return whether a file is not in the mirror, or another one."""
    return state_of(f"{mirror}/{path}") != (size, time)


def _room(mirror: Path) -> int:
    """Return the bytes that outputs may take: records and logs need room, too."""
    try:
        disk = os.statvfs(mirror)
    except OSError:
        return sys.maxsize  # rsync will tell
    kept = min(RESERVE, disk.f_blocks * disk.f_frsize // 20)
    return max(0, disk.f_bavail * disk.f_frsize - kept)


def _no_room(wanted: PackedFiles, fitting: PackedFiles, mirror: Path) -> str:
    largest = max(wanted, key=lambda one: one[1])[0]  # what does not fit is larger than what does
    count = len(wanted) - len(fitting)
    others = f" and {count - 1} more" if count > 1 else ""
    size = f"{(wanted.total - fitting.total) / 1e9:.1f} GB"
    return f"no room here for {largest}{others} ({size}; {_room(mirror) / 1e9:.1f} GB are free)"


def _forget_partial(mirror: Path) -> None:
    """Remove halves of files: they would keep the disk full."""
    for base, folders, _ in os.walk(mirror):
        if PARTIAL in folders:
            shutil.rmtree(Path(base, PARTIAL), ignore_errors=True)


#: The state of a file that does not exist.
NOWHERE = (-1, -1)


def state_of(path: str | Path) -> tuple[int, int]:
    """Return size and modification time of a file; (-1, -1) where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return NOWHERE
    return (status.st_size, min(status.st_mtime_ns, LARGEST))


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
    used = _Used(
        mirrors.values(),
        _folders(mirrors.values(), linked)
        | {path for path in _walk(folder.outputs) if path not in before},  # the user's
    )
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
            f"cannot write outputs to {folder.outputs}: {error.strerror}",
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
        zip(_walked(os.fsencode(mirror)), repeat(index))
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
    found = {parent.as_posix() for path in linked for parent in PurePosixPath(path).parents}
    for mirror in mirrors:
        last = ""
        for path in _walk(mirror):
            if (folder := os.path.dirname(path)) != last:
                last = folder
                found.update(parent.as_posix() for parent in PurePosixPath(path).parents)
    return found


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


def files_of(mirror: Path) -> list[str]:
    """Return the paths of all complete files of a mirror."""
    return list(_walk(mirror))


def _walk(mirror: Path) -> Iterator[str]:
    """Yield the same, of which there may be a million."""
    return map(os.fsdecode, _walked(os.fsencode(mirror)))


def _walked(root: bytes) -> Iterator[bytes]:
    """Yield the paths of all complete files below a folder, sorted. A folder that cannot be read counts
    as empty."""
    folders = [(b"", iter(_entries(root)))]
    while folders:
        prefix, names = folders[-1]
        name = next(names, None)
        if name is None:
            folders.pop()
        elif name.endswith(b"/"):
            folders.append((prefix + name, iter(_entries(root + b"/" + prefix + name))))
        else:
            yield prefix + name


def _entries(folder: bytes) -> list[bytes]:
    """Return the files and folders in a folder in the order of what is below them: a slash counts."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    found.append(entry.name)
                elif entry.is_dir(follow_symlinks=False) and entry.name != os.fsencode(PARTIAL):
                    found.append(entry.name + b"/")
    except OSError:
        pass
    return sorted(found)


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
        with suppress(FileNotFoundError):
            os.unlink(target)
        os.link(source, target)
    folder.write("outputs.json", found.rows)


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
