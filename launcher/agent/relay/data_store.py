"""The data sets of this host: each version is complete or not there, read-only, and used under a lock.

::

    data/<version>/files/      what is in the set, without permission to write
    data/<version>/manifest    see base/manifest.py; its sha256 is the version
    data/<version>/contents    the same with sums of its own, if the manifest has tags of a store
    data/<version>/about.json  name, bytes and files
    data/<version>/links       absolute paths that lead to it, each with a NUL behind it
    data/<version>/pinned      only where it stays however old it is
    data/incoming-<version>/   a copy that is not complete yet; of a store also parts/ of objects, and
                               sums of those that have arrived; from other hosts, blocks that have
                               arrived, and the times of files at their source
    data/locks/<version>       held while the version is brought or removed, shared while it is used

A version or a copy may also be a link to a folder where other users may read it: see data_places.py.

A run that is alive has links in its ``data/`` folder, and keeps what they lead to.
"""

from __future__ import annotations

import fcntl
import os
import re

from ..base import lean, manifest, protocol, run_lock
from ..base.manifest import Entry
from . import data_blocks, data_folders, data_places, data_sums, tree
from .data_examine import NAMED, digest, examine
from .data_links import link, link_absolute, link_in_code, remove_links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from ..base.messages import Message
    from . import data_nearby

_VERSION = re.compile(r"[0-9a-f]{%d}\Z" % manifest.LENGTH)
INCOMING = "incoming-"
#: What was set apart to be deleted: its deletion may be interrupted.
REMOVING = "removing-"
#: Part of the disk that bringing a set leaves free.
MARGIN = 0.01


class DataStore:
    """The versions below ``root``, with the locks that this process holds until it exits."""

    def __init__(self, root: str, going_on: Callable[..., object]) -> None:
        self.root, self.folder = root, os.path.join(root, "data")
        self._going_on = going_on
        self._locks: dict[str, int] = {}
        self._limits: dict[str, int] = {}  # of what is brought
        self._arriving: dict[str, data_sums.Arriving] = {}  # parts of objects that are being read

    # -- bringing one

    def begin(
        self, version: str, name: str, size: int, count: int, limit: int = 0, shared: str = ""
    ) -> Message:
        """Use a version if it is here. Else return the folder for a copy, whose lock this process holds,
        and ``base``: the files of another version of the name. ``busy``: another process has the lock.
        There is room for it, but with a base only once :meth:`room` was asked for. ``limit``: most
        bytes that all versions shall take, as far as they can be removed; 0 for as many as fit.
        ``shared``: the folder in which this host's users share what they have; "" for none."""
        place = self._place(version)
        home = data_places.own_folder(shared, self.root) if shared else ""
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        if self._has(version):
            return {"have": True}
        if not self._lock(version, fcntl.LOCK_EX):
            return {"have": False, "busy": True}
        if os.path.isdir(place) or data_places.adopt(place, home):  # since a moment ago
            self._lock(version, fcntl.LOCK_SH)
            return {"have": True}
        incoming = os.path.join(self.folder, INCOMING + version)
        data_places.begin(incoming, home)
        self._limits[version] = limit
        base = self._base(name)
        if not base:
            wanted = size - data_places.taken(incoming)
            self._keep_to(limit, wanted)
            self._make_room(incoming, wanted)
        about = {"name": name, "bytes": size, "files": count}
        _write(os.path.join(incoming, "about.json"), lean.dumps(about).encode())
        return {"have": False, "folder": incoming, "base": base}

    def take_manifest(self, version: str, data: bytes) -> None:
        """Put the manifest beside an incoming copy. Raises Refused, OSError."""
        place = os.path.join(self._incoming(version), "manifest")
        _write(place + ".new", data)
        os.replace(place + ".new", place)

    def room(self, version: str) -> Message:
        """Make room for what an incoming copy, whose manifest has come, does not share with the version
        that was used last, and keep that; where this is not enough, make it without that version."""
        incoming = self._incoming(version)
        about = _about(incoming)
        base = self._base(str(about.get("name")))
        wanted = int(about.get("bytes", 0)) - data_places.taken(incoming)
        try:
            kept = os.path.basename(os.path.dirname(base))
            shared = data_sums.shared(incoming, base, self._going_on) if base else 0
            self._keep_to(self._limits.get(version, 0), wanted - shared, kept)
            self._make_room(incoming, wanted - shared, kept)
        except protocol.Refused:
            self._make_room(incoming, wanted)
        return {"have": False, "folder": incoming, "base": self._base(str(about.get("name")))}

    def use_if_here(self, version: str) -> bool:
        """Return whether a version is here; then it stays while this process lives."""
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        return self._has(version)

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

    def _base(self, name: str) -> str:
        """Return the files of the version of this name that was used last; "" if there is none."""
        mine = [one for one in self._versions() if self._about(one).get("name") == name]
        newest = max(mine, key=lambda one: data_places.used(self._place(one)), default=None)
        return os.path.join(self._place(newest), "files") if newest else ""

    def _make_room(self, incoming: str, wanted: int, kept: str = "") -> None:
        """Remove what was not used for longest, if the disk is too full for a new version; but not the
        version ``kept``."""
        while True:
            disk = os.statvfs(incoming)
            free = disk.f_bavail * disk.f_frsize - int(MARGIN * disk.f_blocks * disk.f_frsize)
            if free >= wanted or not self._remove_oldest(kept, data_places.device(incoming)):
                break
        if free < wanted:
            text = "%d bytes are needed, and %d are free; nothing more can be removed"
            raise protocol.Refused("no-room", text % (wanted, max(free, 0)))

    def _keep_to(self, limit: int, more: int = 0, kept: str = "") -> None:
        """Remove what was not used for longest, until all versions and so many bytes ``more`` take no
        more than a limit; but not the version ``kept``, nor what is in use or pinned."""
        while limit and data_places.disk_use(self.folder, set(), self._going_on) + more > limit:
            if not self._remove_oldest(kept):
                break

    # -- from other users

    def take(self, version: str, shared: str) -> data_nearby.Taking:
        """Return what copies a version from other users of this host, whose folders are in ``shared``,
        as far as no other version of its name has it. Raises Refused, OSError."""
        from . import data_nearby

        incoming = self._incoming(version)
        self._take_from_base(incoming)
        about = (shared, self.root, version, incoming, self._going_on)
        return data_nearby.Taking(*about)

    def _take_from_base(self, incoming: str) -> None:
        base = self._base(str(_about(incoming).get("name")))
        if data_sums.is_of_store(incoming):
            for _ in data_sums.missing(incoming, base):
                self._going_on()
        else:
            data_blocks.take_from(incoming, base, self._going_on)

    def leave(self, version: str) -> None:
        """Let go of a copy that is not complete: somebody else may bring the rest."""
        if self._checked(version) in self._locks:
            self._unlock(version)

    # -- completing one

    def seal(self, version: str, summed: Collection[bytes] = ()) -> Message:
        """Check all of an incoming copy, and make it a version that is complete. Return the paths that
        differ, which are removed: without any it is done. The sums of those ``summed`` were noted
        just now."""
        incoming = self._incoming(version)
        if digest(os.path.join(incoming, "manifest"), self._going_on)[: manifest.LENGTH] != version:
            return {"bad": [["manifest", "differs"]], "count": 1}
        data_sums.write_contents(incoming)
        base = self._base(str(_about(incoming).get("name")))
        bad, count = examine(incoming, base, True, self._going_on, summed)
        if count:
            return {"bad": bad, "count": count}
        for folder, _, _ in os.walk(os.path.join(incoming, "files"), topdown=False):
            os.chmod(folder, 0o555)
        tree.remove(os.path.join(incoming, "parts"))
        for name in os.listdir(incoming):
            if name in ("sums", data_blocks.TIMES) or name.startswith(data_blocks.NOTES):
                _remove_file(os.path.join(incoming, name))
        data_places.flush(
            incoming
        )  # a power cut must not leave empty files in a version that looks whole
        data_places.move(incoming, self._place(version))
        data_places.show(self._place(version))
        self._lock(version, fcntl.LOCK_SH)
        self._keep_to(self._limits.pop(version, 0))
        return {"bad": [], "count": 0}

    def missing(self, version: str) -> Iterator[Entry]:
        """Yield the objects that an incoming copy lacks. Raises Refused."""
        incoming = self._incoming(version)
        return data_sums.missing(incoming, self._base(str(_about(incoming).get("name"))))

    def fetch(
        self,
        version: str,
        wanted: list[tuple[Entry, str]],
        seconds: float,
        follow: bool,
        headers: dict[str, str],
    ) -> Message:
        """Read objects by their URLs, for so long. Raises Refused."""
        from . import data_fetch  # it takes the longest to load

        about = (self._incoming(version), seconds, follow, headers, self._arriving)
        reading = data_fetch.Fetch(*about)
        reading.run(wanted, self._going_on)
        return {"failed": reading.failed, "bytes": reading.bytes}

    # -- in blocks

    def lent(self, version: str, folder: str) -> data_blocks.Copy:
        """Return the blocks of a folder of this host that is a version. Raises Refused, OSError."""
        return data_folders.lent(self.folder, folder, self._checked(version), self._going_on)

    def blocks(self, version: str) -> data_blocks.Copy:
        """Return the blocks of a version that is here, or of the copy that this process is making, with
        what another version of its name has. Raises Refused, OSError."""
        place = self._place(version)
        if os.path.isdir(place):
            if not self._has(version):
                raise protocol.Refused("not-locked", "this data set is about to be removed")
            found = data_blocks.Copy((place,))
            found.have_all()
            return found
        incoming = self._incoming(version)
        self._take_from_base(incoming)
        found = data_blocks.Copy((incoming, place))
        found.load(self._going_on)
        return found

    def note_times(self, version: str, times: bytes) -> None:
        """Keep the times that files have at their source. Raises Refused, OSError."""
        _write(os.path.join(self._incoming(version), data_blocks.TIMES), times)

    def complete(self, version: str) -> str:
        """Add to a copy what is in no block, and return its folder. Raises Refused, OSError."""
        incoming = self._incoming(version)
        data_blocks.complete(incoming, self._going_on)
        return incoming

    def _incoming(self, version: str) -> str:
        """Return the folder of a copy that this process is making. Raises Refused."""
        if self._locks.get(self._checked(version)) is None:
            raise protocol.Refused("not-locked", "nobody is bringing this data set")
        incoming = os.path.join(self.folder, INCOMING + version)
        if os.path.exists(os.path.join(incoming, version)):  # the manifest, as its sender calls it
            os.replace(os.path.join(incoming, version), os.path.join(incoming, "manifest"))
        return incoming

    # -- using them

    def use(self, run: str, sets: list[dict[str, Any]]) -> list[str]:
        """Give a run its data sets, and return the versions that are not here. Each has a ``name``, a
        ``version``, and ``to``: a path in the run's code, an absolute one, or ""; one that is ``at`` a
        folder of this host is used where it is."""
        run_dir = os.path.join(self.root, "runs", run)
        missing = [
            one["version"]
            for one in sets
            if not one.get("at") and not self._has(self._checked(one["version"]))
        ]
        if missing:
            return missing
        os.makedirs(os.path.join(run_dir, "data"), mode=0o700, exist_ok=True)
        for one in sets:
            files = os.path.join(self._place_for(one), "files")
            link(files, os.path.join(run_dir, "data", os.path.basename(one["name"])))
            if one["to"].startswith("/"):
                link_absolute(files, one["to"], lambda old: self._user_of(old, run))
            elif one["to"]:
                link_in_code(files, os.path.join(run_dir, "code"), one["to"])
        return []

    def _place_for(self, one: dict[str, Any]) -> str:
        """Return where a run finds a set. Raises Refused."""
        if not one.get("at"):
            return self._place(one["version"])
        if one.get("shared"):
            return data_folders.shared(self.folder, one["at"])
        place = data_folders.place_of(self.folder, one["at"])
        if not os.path.isdir(os.path.join(place, "files")):
            raise protocol.Refused("gone", "%s is gone" % one["at"])
        return place

    def _user_of(self, version: str, run: str) -> str:
        """Return who uses a version besides a run; "" if nobody does."""
        others = [one for one in self._users().get(version, []) if one != run]
        if others or version in self._locks:
            return others[0] if others else ""
        if not self._lock(version, fcntl.LOCK_EX):
            return "a run that is about to start"
        self._unlock(version)
        return ""

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

    # -- keeping house

    def listed(self) -> list[Message]:
        """Return all versions here, and the copies that are not complete."""
        users = self._users()
        found: list[Message] = []
        for version in self._versions(INCOMING):
            whole = not version.startswith(INCOMING)
            place, about = os.path.join(self.folder, version), self._about(version)
            bare = version if whole else version[len(INCOMING) :]
            found.append(
                {
                    "version": bare,
                    "whole": whole,
                    "name": str(about.get("name", "?")),
                    "bytes": about.get("bytes", 0) if whole else data_places.size(place),
                    "files": about.get("files", 0) if whole else 0,
                    "used": data_places.used(place),
                    "pinned": os.path.exists(os.path.join(place, "pinned")),
                    "runs": users.get(bare, [])[:NAMED],
                }
            )
            self._going_on()
        return found

    def verify(self, version: str) -> Message:
        """Read all of a version again. One that has changed becomes an incoming copy without what
        differs, so that only this is brought again; in use, it stays."""
        place = self._place(version)
        if not os.path.isdir(place):
            return {"here": False, "bad": [], "count": 0}
        bad, count = examine(place, "", False, self._going_on)
        if count and self._may_remove(version):
            incoming = os.path.join(self.folder, INCOMING + version)
            data_places.delete(incoming)
            data_places.move(place, incoming)
            for folder, _, _ in os.walk(os.path.join(incoming, "files")):
                os.chmod(folder, 0o700)
            data_sums.note_contents(incoming)
            examine(incoming, "", True, lambda done: self._going_on())
            self._unlock(version)
        return {"here": True, "bad": bad, "count": count}

    def pin(self, version: str, on: bool) -> Message:
        """Let a version stay however old it is, or no longer."""
        mark = os.path.join(self._place(version), "pinned")
        if not os.path.isdir(os.path.dirname(mark)):
            return {"here": False}
        if on:
            _write(mark, b"")
        else:
            _remove_file(mark)
        return {"here": True}

    def remove(self, versions: list[str]) -> Message:
        """Delete versions that nothing uses, pinned or not; return what was freed, and what stayed."""
        freed = 0
        kept: list[str] = []
        for version in versions:
            freed += self._removed(self._checked(version), kept)
        return {"freed": freed, "kept": kept}

    def prune(self, keep: int) -> Message:
        """Delete what was not used for longest until ``keep`` bytes are left: no version that is in use
        or pinned."""
        freed = self._finish_removals()
        kept: list[str] = []
        left = sorted(self.listed(), key=lambda one: one["used"])
        total = sum(one["bytes"] for one in left)
        for one in left:
            if total <= keep:
                break
            if one["pinned"] or one["runs"]:
                kept.append(one["version"])
                continue
            freed_here = self._removed(one["version"], kept)
            freed, total = freed + freed_here, total - (one["bytes"] if freed_here else 0)
        freed += data_folders.forget_lost(self.folder, self._users().get)
        return {"freed": freed, "kept": kept}

    def _finish_removals(self) -> int:
        """Delete the rest of what was set apart by a process that is gone; return its bytes."""
        freed = 0
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            version, place = name[len(REMOVING) :], os.path.join(self.folder, name)
            is_left = name.startswith(REMOVING) and _VERSION.match(version)
            if is_left and version not in self._locks and self._lock(version, fcntl.LOCK_EX):
                size = data_places.size(place)
                data_places.delete(place)
                freed += 0 if os.path.lexists(place) else size
                self._unlock(version)
        return freed

    def _remove_oldest(self, but: str, device: int = -1) -> bool:
        """Remove the version or copy that was not used for longest, ``but`` one, on any disk or on the
        ``device``; return whether there was any."""
        if self._finish_removals():
            return True
        kept: list[str] = []
        for one in sorted(self.listed(), key=lambda one: one["used"]):
            name = one["version"] if one["whole"] else INCOMING + one["version"]
            if device >= 0 and data_places.device(os.path.join(self.folder, name)) != device:
                continue
            is_used = one["pinned"] or one["runs"] or one["version"] in self._locks
            if not is_used and one["version"] != but and self._removed(one["version"], kept):
                return True
        return False

    def _removed(self, version: str, kept: list[str]) -> int:
        """Delete a version and its copy; return their bytes. One that is in use is added to ``kept``."""
        found = [self._place(version), os.path.join(self.folder, INCOMING + version)]
        found = [place for place in found if os.path.isdir(place)]
        if not found:
            return 0
        if not self._may_remove(version):
            kept.append(version)
            return 0
        freed = 0
        for place in found:
            freed += max(data_places.size(place), 1)
            remove_links(place)
            apart = os.path.join(self.folder, REMOVING + version)
            data_places.delete(apart)
            data_places.move(place, apart)  # at once: nobody sees a half of it
            data_places.delete(apart)
            self._going_on()
        self._unlock(version)
        return freed

    def _may_remove(self, version: str) -> bool:
        """Lock a version for its removal; return False if something uses it."""
        if not self._lock(version, fcntl.LOCK_EX):
            return False
        if version in self._users():
            self._unlock(version)
            return False
        return True

    # -- names and locks

    def _versions(self, prefix: str = "") -> Iterator[str]:
        """Yield the complete versions; with a ``prefix`` also what starts with it."""
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else ():
            bare = name[len(prefix) :] if prefix and name.startswith(prefix) else name
            if _VERSION.match(bare) and os.path.isdir(os.path.join(self.folder, name)):
                yield name

    def _about(self, version: str) -> Message:
        return _about(os.path.join(self.folder, version))

    def _checked(self, version: str) -> str:
        if not isinstance(version, str) or not _VERSION.match(version):
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


def _about(place: str) -> Message:
    try:
        with open(os.path.join(place, "about.json"), "rb") as file:
            found = lean.loads(file.read(1 << 16).decode())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove_file(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
