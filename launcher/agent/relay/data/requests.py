"""What a launcher may ask of the data sets on this host; a relay loads this when it is first asked."""

from __future__ import annotations

import os

from ...base import run_lock
from ...base.protocol import BAD_REQUEST, Refused
from .examine import NAMED
from .store import DataStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...base.manifest import Entry
    from ...base.messages import Message
    from .folders import FolderReading
    from .nearby import Taking
    from .passing import DataPassing


class DataRequests:
    """Answers "data" requests: what to do is in ``do``."""

    def __init__(self, root: str, going_on: Callable[..., object]) -> None:
        self._store = DataStore(root, going_on)
        self._root, self._going_on = root, going_on
        self._missing: Iterator[Entry] = iter(())  # of the copy that is being made
        self._named: dict[str, Entry] = {}  # those of it that the launcher was told
        self._reading: FolderReading | None = None  # of a source that is on this host
        self._passing: DataPassing | None = None  # of a copy in blocks, from host to host
        self._taking: Taking | None = None  # of a copy from other users of this host

    def answer(self, request: Message) -> Message:
        """Do one of the things below. Raises Refused, OSError."""
        do = getattr(self, "do_%s" % request["do"], None)
        if do is None:
            raise Refused(BAD_REQUEST, "no such thing to do with data: %.80r" % (request["do"],))
        answer: Message = do(request)
        return answer

    def do_begin(self, request: Message) -> Message:
        """Use a version that is here, or begin to bring it."""
        about = (request["name"], request["bytes"], request["files"], request["limit"])
        return self._store.begin(request["version"], *about, request.get("shared", ""))

    def do_room(self, request: Message) -> Message:
        """Make room for a copy whose manifest has come."""
        return self._store.room(request["version"])

    def do_have(self, request: Message) -> Message:
        """Use a version if it is here, and do nothing else. ``at``: whether that folder still is it."""
        if request.get("at"):
            from . import folders

            about = (request["at"], request["version"], self._going_on)
            return {"have": folders.is_version(self._store.folder, *about)}
        return {"have": self._store.use_if_here(request["version"])}

    def do_read(self, request: Message) -> Message:
        """Read a folder of this host as a data set for some seconds, from its start with ``first``."""
        if request["first"]:
            from .folders import FolderReading

            if self._reading:
                self._reading.end()
            about = (self._store.folder, request["path"], self._going_on)
            self._reading = FolderReading(*about)
        if self._reading is None:
            raise Refused(BAD_REQUEST, "no folder is being read")
        return self._reading.go_on(request["seconds"])

    def do_list_of(self, request: Message) -> Message:
        """Take the manifest of a copy."""
        self._store.take_manifest(request["version"], request["payload"])
        return {}

    def do_nearby(self, request: Message) -> Message:
        """Return which other users of this host share a version."""
        from .nearby import having

        users = [user for _, user in having(request["shared"], self._root, request["version"])]
        return {"users": users[:NAMED]}

    def do_take(self, request: Message) -> Message:
        """Copy a version from them for some seconds, from its start with ``first``."""
        version = request["version"]
        if request["first"]:
            self._taking = self._store.take(version, request["shared"])
        if self._taking is None:
            raise Refused(BAD_REQUEST, "nothing is being taken")
        answer = self._taking.go_on(request["seconds"])
        if answer["over"] and answer["whole"]:
            self._store.complete(version)
        elif answer["over"]:
            self._taking = None
            self._store.leave(version)
        return answer

    def do_leave(self, request: Message) -> Message:
        """Let go of a copy that is not complete."""
        self._store.leave(request["version"])
        return {}

    def do_seal(self, request: Message) -> Message:
        """Check what was brought, and let runs use it."""
        taken, self._taking = self._taking, None
        is_its = taken is not None and taken.version == request["version"]
        return self._store.seal(request["version"], taken.summed if taken and is_its else ())

    def do_pass(self, request: Message) -> Message:
        """Take part in a copy from host to host: what to do is in ``part``."""
        if self._passing is None:
            from .passing import DataPassing

            self._passing = DataPassing(self._store, self._going_on)
        return self._passing.answer(request)

    def do_missing(self, request: Message) -> Message:
        """Name the next objects that a copy lacks, from its start with ``first``."""
        if request["first"]:
            self._missing, self._named = self._store.missing(request["version"]), {}
        found = []
        for entry in self._missing:
            name = os.fsdecode(entry.path)
            self._named[name] = entry
            found.append([name, entry.size])
            if len(found) >= request["most"]:
                break
        return {"objects": found}

    def do_fetch(self, request: Message) -> Message:
        """Read objects that were named by URLs, for some seconds."""
        wanted = [(self._named[name], url) for name, url in request["objects"]]
        about = (request["seconds"], request["follow"], request["headers"])
        answer = self._store.fetch(request["version"], wanted, *about)
        failed = {name for name, _, _ in answer["failed"]}
        for name, _ in request["objects"]:
            if name not in failed:
                del self._named[name]
        return answer

    def do_put(self, request: Message) -> Message:
        """Write parts of a run's files to a store."""
        from .put import Put

        putting = Put(self._run_dir(request), request["pieces"])
        putting.run(lambda: self._going_on(putting.sent))
        return {"results": putting.results}

    def do_sum(self, request: Message) -> Message:
        """Return the sha256 of a file of a run."""
        from .examine import digest
        from .put import path_of

        return {"sum": digest(path_of(self._run_dir(request), request), self._going_on)}

    def _run_dir(self, request: Message) -> str:
        if not run_lock.is_run_name(request["run"]):
            raise Refused("bad-run", "not the name of a run: %.80r" % (request["run"],))
        return os.path.join(self._root, "runs", request["run"])

    def do_use(self, request: Message) -> Message:
        """Give a run its data sets."""
        self._run_dir(request)
        return {"missing": self._store.use(request["run"], request["sets"])}

    def do_list(self, request: Message) -> Message:
        """Return what is here."""
        return {"sets": self._store.listed()}

    def do_verify(self, request: Message) -> Message:
        """Read a version again."""
        return self._store.verify(request["version"])

    def do_pin(self, request: Message) -> Message:
        """Let a version stay, or no longer."""
        return self._store.pin(request["version"], request["on"])

    def do_remove(self, request: Message) -> Message:
        """Delete versions that nothing uses."""
        return self._store.remove(request["versions"])

    def do_prune(self, request: Message) -> Message:
        """Delete what was not used for longest."""
        return self._store.prune(request["keep"])
