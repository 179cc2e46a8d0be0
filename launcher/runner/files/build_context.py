"""The files that the build of an image may copy, and a key of all that decides about the image.

Files are read once, and again when their size, inode or one of their times has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ...records.record_files import read_as, write_json
from ...spec.environments import Environment
from ...spec.errors import DocumentError, InputError
from ...spec.files import read_text
from ...spec.frozen import frozen
from ...spec.home import home, make_home
from ...spec.typed_json import to_json
from ..policy import dockerfiles
from ..policy.dockerfiles import Base, Instruction
from . import dockerignore
from .dockerignore import Ignored
from .secret_files import looks_secret

#: A file of :func:`home`, with what is known of builds.
FOLDER = "builds"
#: Bytes of a context above which a person is told what is large in it, and entries that are named.
LARGE, NAMED = 200_000_000, 3
#: Bytes that are read at once.
PIECE = 1 << 20
#: Nanoseconds after its last change within which a file may change again with the same time.
FRESH = 2_000_000_000


_Entry = tuple[bytes, os.stat_result]
_Paths = tuple[bytes, ...]


@frozen
class Listing:
    """A Dockerfile, and the files that its build may copy: not read yet. ``paths`` are files, links and
    folders, relative, as bytes, and sorted. ``largest`` are entries of the folder, those that are
    folders with a slash, with their bytes."""

    file: Path
    text: str
    instructions: tuple[Instruction, ...]
    folder: Path
    ignore: str
    arguments: tuple[str, ...]
    entries: tuple[_Entry, ...]
    files: int
    bytes: int
    largest: tuple[tuple[str, int], ...]
    secrets: tuple[str, ...]

    @property
    def paths(self) -> _Paths:
        """What is sent to a host that builds."""
        return tuple(path for path, _ in self.entries)

    @property
    def identity(self) -> str:
        """A key of the Dockerfile's place and its context, for what is kept of its builds."""
        return identity(self.file, self.folder)

    @property
    def was_read(self) -> bool:
        """Whether its files were read before."""
        return (home() / FOLDER / f"{self.identity}.sums").exists()

    @property
    def bases(self) -> tuple[Base, ...]:
        """What its stages begin from."""
        pairs = dict(one.split("=", 1) for one in self.arguments)
        return dockerfiles.bases(self.instructions, pairs)


def identity(file: Path, folder: Path) -> str:
    """Return a key of a Dockerfile's place and its context."""
    place = f"{file}\0{folder}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(place).hexdigest()[:16]


def listed(wanted: Environment) -> Listing:
    """Return what an image is built of. Blocks. Raises InputError."""
    file = Path(wanted.image)
    text = read_text(file, "Dockerfile")
    found = dockerfiles.instructions(text)
    if not any(one.word == "FROM" for one in found):
        raise DocumentError(
            "a Dockerfile has an image to begin from, and this one has no FROM",
            "FROM pytorch/pytorch:2.9.1-cuda12.8, or FROM scratch",
            str(file),
            found[0].line if found else 1,
        )
    folder = Path(wanted.context or file.parent)
    if not folder.is_dir():
        raise InputError(
            f"context: {folder} is no folder here", "it holds the files that the Dockerfile copies"
        )
    folder = folder.resolve()
    ignore_file = _ignore_file(file, folder)
    ignore = read_text(ignore_file, ".dockerignore") if ignore_file else ""
    try:
        rules = dockerignore.read(ignore.split("\n"))
    except ValueError as error:
        raise DocumentError("it is no pattern", "", str(ignore_file), int(error.args[0])) from None
    entries = tuple(_entries(folder, rules, home().resolve()))
    files = [(os.fsdecode(p), s.st_size) for p, s in entries if stat.S_ISREG(s.st_mode)]
    sizes: dict[str, int] = {}
    for path, size in files:
        name, slash, _ = path.partition("/")
        sizes[name + slash] = sizes.get(name + slash, 0) + size
    return Listing(
        file,
        text,
        found,
        folder,
        ignore,
        wanted.build_args,
        entries,
        len(files),
        sum(sizes.values()),
        tuple(sorted(sizes.items(), key=lambda item: -item[1])[:NAMED]),
        tuple(path for path, _ in files if looks_secret(path)),
    )


def key_of(listing: Listing) -> str:
    """Return a key that is equal for builds that are given the same. Blocks. Raises InputError."""
    reader = _Reader(listing.folder, listing.identity)
    sums = hashlib.sha256()
    for part in (listing.text, listing.ignore, *sorted(listing.arguments)):
        sums.update(part.encode("utf-8", "surrogateescape") + b"\0")
    for path, status in listing.entries:
        sums.update(reader.about(path, status) + b"\0")
    reader.remember()
    return sums.hexdigest()


def _ignore_file(file: Path, folder: Path) -> Path | None:
    """Return the file that says what of a context is left out, as podman and docker look for it."""
    places = (
        file.with_name(f"{file.name}.dockerignore"),
        folder / ".containerignore",
        folder / ".dockerignore",
    )
    return next((one for one in places if one.is_file()), None)


def _entries(root: Path, rules: Ignored, ours: Path) -> Iterator[_Entry]:
    """Yield the files, links and folders of a context in the order of their paths. Raises InputError."""

    def below(folder: bytes) -> Iterator[_Entry]:
        whole = os.path.join(os.fsencode(root), folder)
        try:
            with os.scandir(whole) as there:
                found = sorted(there, key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(os.fsdecode(whole), error) from None
        for entry in found:
            path = os.path.join(folder, entry.name)
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            is_left_out = rules.leaves_out(os.fsdecode(path))
            if not is_left_out and (
                is_folder or stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode)
            ):
                if is_folder and Path(os.fsdecode(entry.path)) == ours:
                    continue  # it changes with every run
                yield path, status
            if is_folder and (not is_left_out or rules.brings_back):
                yield from below(path)

    yield from below(b"")


def _unreadable(path: str, error: OSError) -> InputError:
    return InputError(
        f"the build may copy {path}, which cannot be read: {error.strerror}",
        "chmod u+r it, or list it in .dockerignore",
    )


#: What is known of a file: size, times, inode, and the sum that it had.
_Known = tuple[int, int, int, int, str]


class _Reader:
    """Reads the files of one context, and remembers their sums."""

    def __init__(self, root: Path, key: str) -> None:
        self._root = root
        self._place = home() / FOLDER / f"{key}.sums"
        self._known: Mapping[str, _Known] = read_as(dict[str, _Known], self._place) or {}
        self._new: dict[str, _Known] = {}

    def about(self, path: bytes, status: os.stat_result) -> bytes:
        """Return what of a file, a link or a folder decides about an image. Raises InputError."""
        mode = b"%o " % (status.st_mode & 0o777)
        whole = os.path.join(os.fsencode(self._root), path)
        if path == b".git" or (path.startswith(b".git/") and not _says_the_commit(path)):
            return b""  # git writes there whenever it is asked something
        if stat.S_ISLNK(status.st_mode):
            return b"link " + path + b" " + os.readlink(whole)
        if stat.S_ISDIR(status.st_mode):
            return b"folder " + mode + path
        return b"file " + mode + path + b" " + self._sum(path, whole, status).encode()

    def _sum(self, path: bytes, whole: bytes, status: os.stat_result) -> str:
        name = path.decode("utf-8", "backslashreplace")
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        known = self._known.get(name)
        if known and known[:4] == state:
            self._new[name] = known
            return known[4]
        now, found = time.time_ns(), hashlib.sha256()
        try:
            with open(whole, "rb", buffering=0) as file:
                while piece := file.read(PIECE):
                    found.update(piece)
        except OSError as error:
            raise _unreadable(os.fsdecode(whole), error) from None
        if max(status.st_mtime_ns, status.st_ctime_ns) < now - FRESH:
            self._new[name] = (*state, found.hexdigest())
        return found.hexdigest()

    def remember(self) -> None:
        """Keep the sums for the next time; they count as used now."""
        if self._new == self._known:
            with suppress(OSError):
                os.utime(self._place)
            return
        with suppress(OSError):  # then they are read again
            make_home()
            self._place.parent.mkdir(mode=0o700, exist_ok=True)
            write_json(self._place, self._new)


def _says_the_commit(path: bytes) -> bool:
    return path in (b".git/HEAD", b".git/packed-refs") or path.startswith(b".git/refs/heads/")


# -- what was built


@frozen
class Built:
    """An image that was built: its ID, when, on which host and with which runtime, for which machine,
    and the IDs of the images that it began from there."""

    id: str
    time: float
    on: str
    runtime: str
    machine: str
    tag: str
    bases: Mapping[str, str]


#: Images of one Dockerfile that are remembered: of as many states of its context.
REMEMBERED = 20


def built(identity: str, key: str) -> Built | None:
    """Return the image that was built of exactly this, if that is known."""
    return _all(identity).get(key)


def note(identity: str, key: str, image: Built) -> None:
    """Remember an image. One that could not be written down is built again, of what the runtime has
    kept."""
    known = {name: one for name, one in _all(identity).items() if name != key}
    latest = list({**known, key: image}.items())[-REMEMBERED:]
    with suppress(OSError):
        make_home()
        _place(identity).parent.mkdir(mode=0o700, exist_ok=True)
        write_json(_place(identity), {name: to_json(one) for name, one in latest})


def _all(identity: str) -> Mapping[str, Built]:
    return read_as(dict[str, Built], _place(identity)) or {}


def _place(identity: str) -> Path:
    return home() / FOLDER / f"{identity}.json"


def log_of(wanted: Environment) -> Path:
    """Return where the log of the latest build of a Dockerfile is, outside of any run."""
    file = Path(wanted.image)
    folder = Path(wanted.context or file.parent).resolve()
    return home() / FOLDER / f"{identity(file, folder)}.log"
