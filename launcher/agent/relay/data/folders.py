"""Folders of this host that are the sources of data sets. They are read here, and stay as they are.

::

    data/folder-<hash of its path>/files       a link to the folder
    data/folder-<hash>/manifest, sums          of the last time that it was read
    data/folder-<hash>/note.json               its path, fingerprint, version, files and bytes then;
                                               ``sure``: a later change has another fingerprint
    data/folder-<hash>/lock                    held while it is read
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time

from ...base import far_paths, folder_sums, lean, plain_files
from ...base.folder_sums import Reading, Unfit
from ...base.protocol import Refused
from .. import tree
from .blocks import Copy
from .links import link, remove_links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ...base.messages import Message

PREFIX = "folder-"


def place_of(data: str, path: str) -> str:
    """Return where it is kept what is known of a folder."""
    return os.path.join(data, PREFIX + hashlib.sha256(os.fsencode(path)).hexdigest()[:32])


def shared(data: str, path: str) -> str:
    """Return where it is kept that runs use a folder of this host, of which nothing was read. Raises
    Refused, OSError."""
    try:
        if not far_paths.is_folder(path):
            raise Refused("not-shared", "%s is no folder there" % path)
    except far_paths.Silent:
        raise Refused("silent", "%s does not answer there" % path)
    place = place_of(data, path)
    os.makedirs(place, mode=0o700, exist_ok=True)
    link(path, os.path.join(place, "files"))
    return place


class FolderReading:
    """Reads a folder, for a while at a time. Nobody else reads it meanwhile."""

    def __init__(self, data: str, path: str, going_on: Callable[[], object]) -> None:
        """``path`` may start with ``~``."""
        self._path, self._going_on = os.path.expanduser(path), going_on
        self._data, self._place, self._lock = data, "", -1
        self._answer: Message = {}
        self._steps = self._read()

    def go_on(self, seconds: float) -> Message:
        """Read on; return how far that is, and in the end what the folder holds, or why it cannot be a
        data set. Raises OSError."""
        until = time.monotonic() + seconds
        try:
            for _ in self._steps:
                if time.monotonic() > until:
                    break
            else:
                self._unlock()
        except Unfit as found:
            self._unlock()
            self._answer["unfit"] = [
                found.reason,
                os.fsdecode(found.path),
                os.fsdecode(found.target),
            ]
        except OSError as error:
            self._unlock()
            unfit = folder_sums.unfit(error)
            if unfit is None:
                raise
            self._answer["unfit"] = [unfit.reason, os.fsdecode(unfit.path), ""]
        return self._answer

    def end(self) -> None:
        """Leave it to others."""
        self._steps.close()
        self._unlock()

    def _read(self) -> Generator[None, None, None]:
        if not os.path.isdir(self._path):
            is_there = os.path.exists(self._path)
            raise Unfit(
                folder_sums.NO_FOLDER if is_there else folder_sums.MISSING, os.fsencode(self._path)
            )
        root = os.path.realpath(self._path)
        self._place = place_of(self._data, root)
        self._answer["folder"] = root
        os.makedirs(self._place, mode=0o700, exist_ok=True)
        while not self._locked():
            yield
            time.sleep(0.05)
        link(root, os.path.join(self._place, "files"))
        note = _note(self._place)
        if not note.get("sure") or not _is_same(note, root, self._going_on):
            yield from self._read_again(root)
            note = _note(self._place)
        self._answer.update({name: note[name] for name in ("version", "files", "bytes")})
        self._answer.update(over=True, place=self._place)

    def _read_again(self, root: str) -> Iterator[None]:
        new = {name: os.path.join(self._place, "%s.new" % name) for name in ("manifest", "sums")}
        sums = os.path.join(self._place, "sums")
        with open(sums, "ab+", 0) as before, open(new["manifest"], "wb") as made:
            before.seek(0)
            with open(new["sums"], "wb") as noted:
                reading = Reading(os.fsencode(root), before)
                for _ in reading.steps(made, noted):
                    self._answer["read"] = reading.read
                    self._going_on()
                    yield
        # A note without a version comes first: it must not be about another manifest.
        self._write({})
        for name, path in new.items():
            os.rename(path, os.path.join(self._place, name))
        self._write(
            {
                "path": root,
                "fingerprint": reading.fingerprint,
                "sure": reading.is_sure,
                "version": reading.version,
                "files": reading.files,
                "bytes": reading.bytes,
            }
        )

    def _write(self, note: Message) -> None:
        path = os.path.join(self._place, "note.json")
        with open(path + ".new", "wb") as file:
            file.write(lean.dumps(note).encode())
        os.rename(path + ".new", path)

    def _locked(self) -> bool:
        if self._lock < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(os.path.join(self._place, "lock"), flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def is_version(data: str, path: str, version: str, going_on: Callable[[], object]) -> bool:
    """Return whether a folder that was read still is that version. Raises OSError."""
    note = _note(place_of(data, path))
    return note.get("version") == version and _is_same(note, path, going_on)


def _is_same(note: Message, path: str, going_on: Callable[[], object]) -> bool:
    """Return whether a folder has the fingerprint that was noted."""
    try:
        found = folder_sums.fingerprint(os.fsencode(path), going_on)
        return bool(found == note["fingerprint"])
    except FileNotFoundError:
        return False


def lent(data: str, path: str, version: str, going_on: Callable[[], object]) -> Copy:
    """Return the blocks of a folder that was read, for other hosts. Raises Refused, OSError."""
    if not is_version(data, path, version, going_on):
        raise Refused("changed", "%s has changed since it was read" % path)
    found = Copy((place_of(data, path),))
    found.have_all()
    return found


def forget_lost(data: str, users: Callable[[str], object]) -> int:
    """Forget folders that are gone and have no ``users``; return the bytes that this frees."""
    freed = 0
    for name in os.listdir(data) if os.path.isdir(data) else ():
        place = os.path.join(data, name)
        if not name.startswith(PREFIX) or users(name) or not _is_lost(place):
            continue
        freed += sum(one.stat(follow_symlinks=False).st_size for one in os.scandir(place))
        remove_links(place)
        tree.remove(place)
    return freed


def _is_lost(place: str) -> bool:
    try:
        return not far_paths.is_there(os.path.join(place, "files"))
    except far_paths.Silent:
        return False  # its server may come back


def _note(place: str) -> Message:
    try:
        found = lean.loads(plain_files.text(os.path.join(place, "note.json")))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
