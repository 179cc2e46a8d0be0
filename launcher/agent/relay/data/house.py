"""What is kept of the data sets on this host, and what is deleted to make room for others."""

from __future__ import annotations

import fcntl
import os

from ...base import plain_files, protocol
from . import folders, places, sums
from .examine import NAMED, examine
from .links import remove_links
from .versions import INCOMING, REMOVING, DataVersions, is_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.messages import Message

#: Part of the disk that bringing a set leaves free.
MARGIN = 0.01


class DataHouse(DataVersions):
    """Lists, checks and deletes versions."""

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
                    "bytes": about.get("bytes", 0) if whole else places.size(place),
                    "files": about.get("files", 0) if whole else 0,
                    "used": places.used(place),
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
            places.delete(incoming)
            places.move(place, incoming)
            for folder, _, _ in plain_files.walk(os.path.join(incoming, "files")):
                os.chmod(folder, 0o700)
            sums.note_contents(incoming)
            examine(incoming, "", True, lambda done: self._going_on())
            self._unlock(version)
        return {"here": True, "bad": bad, "count": count}

    def pin(self, version: str, on: bool) -> Message:
        """Let a version stay however old it is, or no longer."""
        mark = os.path.join(self._place(version), "pinned")
        if not os.path.isdir(os.path.dirname(mark)):
            return {"here": False}
        if on:
            write(mark, b"")
        else:
            remove_file(mark)
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
        freed += folders.forget_lost(self.folder, self._users().get)
        return {"freed": freed, "kept": kept}

    def _finish_removals(self) -> int:
        """Delete the rest of what was set apart by a process that is gone; return its bytes."""
        freed = 0
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            version, place = name[len(REMOVING) :], os.path.join(self.folder, name)
            is_left = name.startswith(REMOVING) and is_version(version)
            if is_left and version not in self._locks and self._lock(version, fcntl.LOCK_EX):
                size = places.size(place)
                places.delete(place)
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
            if device >= 0 and places.device(os.path.join(self.folder, name)) != device:
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
            freed += max(places.size(place), 1)
            remove_links(place)
            apart = os.path.join(self.folder, REMOVING + version)
            places.delete(apart)
            places.move(place, apart)  # at once: nobody sees a half of it
            places.delete(apart)
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

    # -- room

    def _make_room(self, incoming: str, wanted: int, kept: str = "") -> None:
        """Remove what was not used for longest, if the disk is too full for a new version; but not the
        version ``kept``."""
        while True:
            disk = os.statvfs(incoming)
            free = disk.f_bavail * disk.f_frsize - int(MARGIN * disk.f_blocks * disk.f_frsize)
            if free >= wanted or not self._remove_oldest(kept, places.device(incoming)):
                break
        if free < wanted:
            text = "%d bytes are needed, and %d are free; nothing more can be removed"
            raise protocol.Refused("no-room", text % (wanted, max(free, 0)))

    def _keep_to(self, limit: int, more: int = 0, kept: str = "") -> None:
        """Remove what was not used for longest, until all versions and so many bytes ``more`` take no
        more than a limit; but not the version ``kept``, nor what is in use or pinned."""
        while limit and places.disk_use(self.folder, set(), self._going_on) + more > limit:
            if not self._remove_oldest(kept):
                break


def remove_file(path: str) -> None:
    """Remove a file that may be missing."""
    if os.path.exists(path):
        os.unlink(path)


def write(path: str, data: bytes) -> None:
    """Write a file."""
    with open(path, "wb") as file:
        file.write(data)
