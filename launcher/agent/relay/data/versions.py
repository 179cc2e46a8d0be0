"""The versions of data sets on this host: their names, their locks, and who uses them."""

from __future__ import annotations

import fcntl
import os
import re

from ...base import lean, manifest, protocol, run_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...base.messages import Message

_VERSION = re.compile(r"[0-9a-f]{%d}\Z" % manifest.LENGTH)
INCOMING = "incoming-"
#: What was set apart to be deleted: its deletion may be interrupted.
REMOVING = "removing-"


class DataVersions:
    """The versions below ``root``, with the locks that this process holds until it exits."""

    def __init__(self, root: str, going_on: Callable[..., object]) -> None:
        self.root, self.folder = root, os.path.join(root, "data")
        self._going_on = going_on
        self._locks: dict[str, int] = {}

    def files(self, version: str) -> str:
        """Return the folder with what is in a version."""
        return os.path.join(self._place(version), "files")

    def _has(self, version: str) -> bool:
        """Return whether a version is here; then nobody removes it before this process exits."""
        if not os.path.isdir(self._place(version)) or not self._lock(version, fcntl.LOCK_SH):
            return False
        if os.path.isdir(self._place(version)):
            os.utime(self._place(version))
            return True
        return False

    def _users(self) -> dict[str, list[str]]:
        """Return the versions that runs which are alive use, with these runs."""
        found: dict[str, list[str]] = {}
        runs = os.path.join(self.root, "runs")
        for name in sorted(os.listdir(runs)) if os.path.isdir(runs) else ():
            links = os.path.join(runs, name, "data")
            if os.path.isdir(links) and run_lock.is_alive(os.path.join(runs, name)):
                for name_of_set in sorted(os.listdir(links)):
                    target = os.readlink(os.path.join(links, name_of_set))
                    found.setdefault(os.path.basename(os.path.dirname(target)), []).append(name)
        return found

    def _versions(self, prefix: str = "") -> Iterator[str]:
        """Yield the complete versions; with a ``prefix`` also what starts with it."""
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else ():
            bare = name[len(prefix) :] if prefix and name.startswith(prefix) else name
            if is_version(bare) and os.path.isdir(os.path.join(self.folder, name)):
                yield name

    def _about(self, version: str) -> Message:
        return note_of(os.path.join(self.folder, version))

    def _checked(self, version: str) -> str:
        if not isinstance(version, str) or not is_version(version):
            raise protocol.Refused("bad-version", "not a version of a data set: %.80r" % (version,))
        return version

    def _place(self, version: str) -> str:
        return os.path.join(self.folder, self._checked(version))

    def _lock(self, version: str, kind: int) -> bool:
        """Lock a version for as long as this process lives; return False if another has the lock."""
        lock = self._locks.get(version)
        if lock is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(os.path.join(self.folder, "locks", version), flags, 0o600)
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except OSError:
            if version not in self._locks:
                os.close(lock)
            return False
        self._locks[version] = lock
        return True

    def _unlock(self, version: str) -> None:
        os.close(self._locks.pop(version))


def note_of(place: str) -> Message:
    """Return what is known of a version or a copy; nothing where that was not written."""
    try:
        with open(os.path.join(place, "about.json"), "rb") as file:
            found = lean.loads(file.read(1 << 16).decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_version(name: str) -> bool:
    """Return whether a name is one that a version may have."""
    return bool(_VERSION.match(name))
