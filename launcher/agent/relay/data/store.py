"""The data sets of this host: each version is complete or not there, read-only, and used under a lock.

::

    data/<version>/files/      what is in the set, without permission to write
    data/<version>/manifest    see base/manifest.py; its sha256 is the version
    data/<version>/contents    the same with sums of its own, if the manifest has tags of a store
    data/<version>/about.json  name, bytes and files
    data/<version>/links       absolute paths that lead to it, each with a NUL behind it
    data/<version>/pinned      only where it stays however old it is
    data/incoming-<version>/   a copy that is not complete yet; of a store also parts/ of objects,
                               sums of those that have arrived, and keyed where its tags are none;
                               from other hosts, blocks that have arrived, and the times of files at
                               their source
    data/locks/<version>       held while the version is brought or removed, shared while it is used

A version or a copy may also be a link to a folder where other users may read it: see places.py.

A run that is alive has links in its ``data/`` folder, and keeps what they lead to.
"""

from __future__ import annotations

import fcntl
import os

from ...base import lean, manifest, protocol
from ...base.manifest import Entry
from .. import disk
from . import blocks as data_blocks
from . import folders, places, resuming, sums
from .examine import digest, examine
from .house import DataHouse, write
from .links import link, link_absolute, link_in_code
from .versions import INCOMING, note_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from ...base.messages import Message
    from . import nearby


class DataStore(DataHouse):
    """Brings versions, and gives them to runs."""

    def __init__(self, root: str, going_on: Callable[..., object]) -> None:
        super().__init__(root, going_on)
        self._limits: dict[str, int] = {}  # of what is brought
        self._arriving: dict[str, sums.Arriving] = {}  # parts of objects that are being read
        self._fetched: dict[str, set[bytes]] = {}  # objects whose sums this process has noted

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
        home = places.own_folder(shared, self.root) if shared else ""
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        if self._has(version):
            return {"have": True}
        if not self._lock(version, fcntl.LOCK_EX):
            return {"have": False, "busy": True}
        if os.path.isdir(place) or places.adopt(place, home):  # since a moment ago
            self._lock(version, fcntl.LOCK_SH)
            return {"have": True}
        incoming = os.path.join(self.folder, INCOMING + version)
        places.begin(incoming, home)
        resuming.resume(incoming)
        self._limits[version] = limit
        base = self._base(name)
        if not base:
            wanted = size - places.taken(incoming)
            self._keep_to(limit, wanted)
            self._make_room(incoming, wanted)
        about = {"name": name, "bytes": size, "files": count}
        write(os.path.join(incoming, "about.json"), lean.dumps(about).encode())
        return {"have": False, "folder": incoming, "base": base}

    def take_manifest(self, version: str, data: bytes) -> None:
        """Put the manifest beside an incoming copy. Raises Refused, OSError."""
        place = os.path.join(self._incoming(version), "manifest")
        write(place + ".new", data)
        os.replace(place + ".new", place)

    def room(self, version: str) -> Message:
        """Make room for what an incoming copy, whose manifest has come, does not share with the version
        that was used last, and keep that; where this is not enough, make it without that version."""
        incoming = self._incoming(version)
        known = note_of(incoming)
        base = self._base(str(known.get("name")))
        wanted = int(known.get("bytes", 0)) - places.taken(incoming)
        try:
            kept = os.path.basename(os.path.dirname(base))
            shared = sums.shared(incoming, base, self._going_on) if base else 0
            self._keep_to(self._limits.get(version, 0), wanted - shared, kept)
            self._make_room(incoming, wanted - shared, kept)
        except protocol.Refused:
            self._make_room(incoming, wanted)
        return {"have": False, "folder": incoming, "base": self._base(str(known.get("name")))}

    def use_if_here(self, version: str) -> bool:
        """Return whether a version is here; then it stays while this process lives."""
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        return self._has(version)

    def _base(self, name: str) -> str:
        """Return the files of the version of this name that was used last; "" if there is none."""
        mine = [one for one in self._versions() if self._about(one).get("name") == name]
        newest = max(mine, key=lambda one: places.used(self._place(one)), default=None)
        return os.path.join(self._place(newest), "files") if newest else ""

    # -- from other users

    def take(self, version: str, shared: str) -> nearby.Taking:
        """Return what copies a version from other users of this host, whose folders are in ``shared``,
        as far as no other version of its name has it. Raises Refused, OSError."""
        from . import nearby

        incoming = self._incoming(version)
        self._take_from_base(incoming)
        about = (shared, self.root, version, incoming, self._going_on)
        return nearby.Taking(*about)

    def _take_from_base(self, incoming: str) -> None:
        base = self._base(str(note_of(incoming).get("name")))
        if sums.is_of_store(incoming):
            for _ in sums.missing(incoming, base):
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
        just now, and so were those of objects that this process has fetched."""
        incoming = self._incoming(version)
        if digest(os.path.join(incoming, "manifest"), self._going_on)[: manifest.LENGTH] != version:
            return {"bad": [["manifest", "differs"]], "count": 1}
        sums.write_contents(incoming)
        base = self._base(str(note_of(incoming).get("name")))
        summed = summed or self._fetched.pop(version, ())
        bad, count = examine(incoming, base, True, self._going_on, summed)
        if count:
            return {"bad": bad, "count": count}
        resuming.close(incoming)
        # A power cut must not leave empty files in a version that looks whole.
        disk.flush(os.path.realpath(incoming), self._going_on)
        resuming.forget(incoming)
        places.move(incoming, self._place(version))
        places.show(self._place(version))
        self._lock(version, fcntl.LOCK_SH)
        self._keep_to(self._limits.pop(version, 0))
        return {"bad": [], "count": 0}

    def missing(self, version: str) -> Iterator[Entry]:
        """Yield the objects that an incoming copy lacks. Raises Refused."""
        incoming = self._incoming(version)
        return sums.missing(incoming, self._base(str(note_of(incoming).get("name"))))

    def fetch(
        self,
        version: str,
        wanted: list[tuple[Entry, str]],
        seconds: float,
        follow: bool,
        headers: dict[str, str],
    ) -> Message:
        """Read objects by their URLs, for so long. Raises Refused."""
        from . import fetch as data_fetch  # it takes the longest to load

        about = (self._incoming(version), seconds, follow, headers, self._arriving)
        reading = data_fetch.Fetch(*about)
        reading.run(wanted, self._going_on)
        self._fetched.setdefault(version, set()).update(reading.summed)
        return {"failed": reading.failed, "bytes": reading.bytes}

    # -- in blocks

    def lent(self, version: str, folder: str) -> data_blocks.Copy:
        """Return the blocks of a folder of this host that is a version. Raises Refused, OSError."""
        return folders.lent(self.folder, folder, self._checked(version), self._going_on)

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
        write(os.path.join(self._incoming(version), data_blocks.TIMES), times)

    def complete(self, version: str, finished: Collection[bytes] = ()) -> str:
        """Add to a copy what is in no block, and return its folder. Of files that are ``finished``,
        nothing is left to do. Raises Refused, OSError."""
        incoming = self._incoming(version)
        data_blocks.complete(incoming, self._going_on, finished)
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
            return folders.shared(self.folder, one["at"])
        place = folders.place_of(self.folder, one["at"])
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
