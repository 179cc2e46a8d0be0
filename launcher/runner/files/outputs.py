"""Lists the outputs of a run on a host, and copies them into the mirror of that host."""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from ...spec import sizes
from ...spec.errors import RecordError, SyncError, Vanished
from ...spec.frozen import frozen
from ...spec.model import AUTO_BYTES, is_elsewhere
from ...spec.packed import PackedFiles, PackedNames
from ...transport import rsync
from ...transport.agent_client import Agent
from ...transport.answers.outputs import Written, is_inside
from ...transport.connection import Connection
from ..policy.spares import named
from .choice import Choice
from .mirrors import NOWHERE, PARTIAL, state_of

#: Bytes that outputs leave free on this disk, or a twentieth of a small one.
RESERVE = 64 << 20
#: Among the outputs: the folders of what is outside of the run's folder, below / and at home.
ROOT, HOME = "_root", "_home"


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
    sparse: frozenset[str] = frozenset()  # files with holes

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
        sparse=frozenset(files.sparse),
        written=answer.written,
        left=() if choice.has_all else tuple(_matching((*choice.paths, *choice.elsewhere), found)),
        kept=(
            sum(map(len, found)) - sum(map(len, chosen)),
            sum(each.total for each in found) - sum(each.total for each in chosen),
        ),
        folder=answer.folder,
        unreadable=answer.unreadable,
        links=tuple(link for link in files.links if all(map(_is_plain, link))),
        left_out=tuple(one for one in answer.left_out if _counts(one[0], choice)),
        unlisted=answer.unlisted,
    )


#: How what is said of a whole folder begins, in place of a path: see launcher.agent.relay.tree.
_FOLDER = "the folder "


def _counts(left_out: str, choice: Choice) -> bool:
    """Return whether what a host leaves out would have been brought."""
    return choice.has_all or choice.has(left_out) or left_out.startswith(_FOLDER)


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
        for some, option in _by_holes(fitting, what.sparse):
            try:
                copied = await rsync.copy(
                    connection,
                    host,
                    [
                        "--times",
                        "--ignore-missing-args",  # what the run has deleted since
                        "--force",  # a file in the place of a folder with files
                        *option,
                        f"--partial-dir={PARTIAL}",
                        f"--temp-dir={_incoming(mirror).absolute()}",
                        f"x:{source.rstrip('/')}/",
                        f"{target}/",
                    ],
                    _names_below(inside, some),
                    partial(progress, some.total),
                )
                received += copied.received
            except RecordError:
                _forget_partial(mirror)
                raise
            except SyncError as error:  # a file among them; the others have come
                missing += [] if isinstance(error, Vanished) else [error.message]
    _link_twins(what, mirror, twins)
    return Pulled(received, "; ".join([*missing, *left_out]), not missing)


def _by_holes(files: PackedFiles, sparse: Set[str]) -> list[tuple[PackedFiles, list[str]]]:
    """Return files without holes, then those with, as far as there are any, each with the option that
    rsync needs: it writes a file with --sparse in pieces of 1 KB."""
    if not sparse:
        return [(files, [])]
    dense = files.only(lambda path, *_: path not in sparse)
    holed = files.only(lambda path, *_: path in sparse)
    return [(some, option) for some, option in ((dense, []), (holed, ["--sparse"])) if len(some)]


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


def not_here(what: Listed, mirror: Path, or_later: bool = False) -> tuple[int, int]:
    """Return how many of the listed files are not in the mirror, and their bytes. With ``or_later``, a
    later version counts as well: a run that goes on writes between a list and a copy."""
    count = total = 0
    for path, size, time in what.files:
        here = state_of(f"{mirror}/{path}")
        if here != (size, time) and not (or_later and here[1] > time):
            count, total = count + 1, total + size
    return count, total


def still_there(what: Listed, later: Listed) -> Listed:
    """Return a list without the files that a later one of the same host does not have: they were deleted
    meanwhile."""

    def both(one: PackedFiles, other: PackedFiles) -> PackedFiles:
        names = PackedNames(other.paths)
        return one.only(lambda path, *_: path in names)

    return replace(
        what,
        outputs=both(what.outputs, later.outputs),
        code=both(what.code, later.code),
        elsewhere=both(what.elsewhere, later.elsewhere),
    )


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
    missing = sizes.size(wanted.total - fitting.total)
    return f"no room here for {largest}{others} ({missing}; {sizes.size(_room(mirror))} are free)"


def _forget_partial(mirror: Path) -> None:
    """Remove halves of files: they would keep the disk full."""
    for base, folders, _ in os.walk(mirror):
        if PARTIAL in folders:
            shutil.rmtree(Path(base, PARTIAL), ignore_errors=True)
