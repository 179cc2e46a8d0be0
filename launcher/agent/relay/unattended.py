"""Stores the outputs of a run that is over while no launcher is in touch, by URLs that one has left.

Names and sizes were not known when these were signed. So the outputs of a host are a tar archive, in
parts that are objects of their own: nobody has to put them together, and parts that were never needed
leave nothing. A manifest is written before them, with ``whole: false``, and again when all are there.

A URL is a secret: it is in the memory of this process, and in no message, journal or log.
"""

from __future__ import annotations

import hashlib
import os
import random
import tarfile
import threading
import time

from ..base import attendance, lean, manifest, plain_files, protocol, received
from ..base.journal import Journal, read_from
from ..base.lean import Socket, signal, socket
from ..processes import detached
from . import elsewhere, signed_urls, tree, written
from .data import put as data_put
from .data import sums
from .signed_urls import Again, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..base.messages import Message

#: Seconds without a word after which no launcher is in touch; and where none was connected at the end.
SILENT, ALONE = 30.0, 10.0
#: Seconds between two looks at that.
LOOK = 0.5
#: Smallest and largest size of a part: the larger ones are for outputs that would need more URLs.
LEAST, MOST = 64 << 20, 4 << 30
#: Files from this size on never have less than FIRST in a part that is not their last: so a store can
#: copy them out of the archive.
LARGE, FIRST = 8 << 20, 5 << 20
#: Most files of an archive: the others stay on the host.
MOST_FILES = 200_000
#: Seconds after which a store is given up that takes nothing, and the longest pause between two tries.
GIVE_UP, PAUSE = 24 * 3600.0, 60.0
#: Names of what is missing, at most, in a manifest.
NAMED = 100
#: What ends an archive, and the size of what it is made of.
TAIL, BLOCK = bytes(1024), 512


def begin(supply: Message, age: float, silent: float, alone: bool) -> None:
    """Begin to store the outputs of the run in this folder in a process of its own.

    It was ``silent`` for so many seconds, and has the URLs for ``age``. Returns at once.
    """
    lock = attendance.own()
    if lock is None:
        return
    now = time.monotonic()
    if os.fork() == 0:
        try:
            os.nice(10)
            _let_go(lock)
            watch = Watch(lock, now - silent, ALONE if alone else SILENT)
            threading.Thread(target=watch.keep_looking, daemon=True).start()
            Upload(supply, now - age, watch).run()
            attendance.forget()
        except BaseException as error:
            print("outputs were not stored: %s" % type(error).__name__, flush=True)
        finally:
            os._exit(0)
    os.close(lock)


def _let_go(lock: int) -> None:
    """Keep nothing of the supervisor but its folder and its log."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    detached.close_all(but={lock})


class Held(Exception):
    """A launcher is in touch."""


class Over(Exception):
    """Nothing more can be stored; the text says why."""


class Watch:
    """Knows whether a launcher is in touch, and ends this process where one takes over."""

    def __init__(self, lock: int, heard: float, patience: float) -> None:
        self._lock, self._heard, self._patience = lock, heard, patience
        self._seen = os.fstat(lock).st_mtime_ns

    def keep_looking(self) -> None:
        """Look again and again."""
        while True:
            time.sleep(LOOK / 5)
            self._look()

    def _look(self) -> None:
        try:
            status = os.stat(attendance.NAME)
        except OSError:
            os._exit(0)  # the run was deleted
        if os.pread(self._lock, len(attendance.END), 0) == attendance.END:
            os._exit(0)
        if status.st_mtime_ns != self._seen:
            self._seen, self._heard = status.st_mtime_ns, time.monotonic()
            self._patience = SILENT

    @property
    def is_alone(self) -> bool:
        """Whether no launcher is in touch."""
        return time.monotonic() - self._heard > self._patience

    def until_alone(self) -> None:
        """Wait until no launcher is in touch."""
        while not self.is_alone:
            time.sleep(LOOK)


class File:
    """An output: its path among them, where it is on this host (``place``), and its state when it was
    listed."""

    __slots__ = ("at", "head", "path", "place", "size", "sum", "time", "why")

    def __init__(self, path: str, place: str, size: int, time: int) -> None:
        self.path, self.place, self.size, self.time = path, place, size, time
        self.head = len(self.header())
        self.at = 0  # where its bytes begin in the archive
        self.sum = "" if size else hashlib.sha256().hexdigest()
        self.why = ""  # why it has no sum

    def header(self) -> bytes:
        """Return what stands before its bytes in a tar archive."""
        info = tarfile.TarInfo(self.path)
        info.size, info.mtime, info.mode = self.size, self.time // 10**9, 0o600
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def told(self) -> bytes:
        """Return what a manifest says of it."""
        about = {"path": self.path, "size": self.size, "time": self.time, "sha256": self.sum}
        return lean.dumps(dict(about, at=self.at)).encode()

    @property
    def length(self) -> int:
        """Its bytes in the archive."""
        return self.head + self.size + -self.size % BLOCK


class Part:
    """A part of an archive: it begins in a file, ``offset`` bytes behind the start of its header."""

    __slots__ = ("length", "offset", "start")

    def __init__(self, start: int, offset: int) -> None:
        self.start, self.offset, self.length = start, offset, 0


def plan(files: list[File], most: int) -> tuple[list[File], list[Part], list[File]]:
    """Return the files that fit into so many parts, the parts, and the files that do not: the largest
    ones."""
    left_out: list[File] = []
    while True:
        size = LEAST
        while True:
            parts = _cut(files, size)
            if len(parts) <= most:
                return files, parts, left_out
            if size >= MOST:
                break
            size *= 2
        largest = max(files, key=lambda one: one.size)
        left_out.append(largest)
        files = [one for one in files if one is not largest]


def _cut(files: list[File], most: int) -> list[Part]:
    """Return the parts of an archive, of at most so many bytes each."""
    part = Part(0, 0)
    parts, total = [part], 0
    for index, file in enumerate(files):
        file.at, done = total + file.head, 0
        total += file.length
        while done < file.length:
            take = min(file.length - done, most - part.length)
            cut = done + take
            if (
                file.size >= LARGE
                and done <= file.head
                and cut < min(file.head + FIRST, file.length)
            ):
                take = max(0, min(take, file.head - done))
                part.length, done = part.length + take, done + take
                part = Part(index, done)
                parts.append(part)
                continue
            part.length, done = part.length + take, done + take
            if part.length == most and done < file.length:
                part = Part(index, done)
                parts.append(part)
        if part.length + len(TAIL) > most:
            part = Part(index + 1, 0)
            parts.append(part)
    part.length += len(TAIL)
    return parts


class Upload:
    """Stores the outputs of the run in this folder."""

    def __init__(self, supply: Message, since: float, watch: Watch) -> None:
        self._urls: list[str] = supply["urls"]
        self._manifest: str = supply["manifest"]
        self._supply, self._watch = supply, watch
        self._until = since + supply["seconds"]
        self._files: list[File] = []
        self._parts: list[Part] = []
        self._missing: list[tuple[str, str]] = []
        self._missed = self._missed_bytes = self._attempt = 0
        self._open: tuple[int, int] | None = None  # what is read: its index, and a descriptor
        self._sum: Any = None  # of what was read of it

    def run(self) -> None:
        """Store everything, and record how far that came."""
        self._watch.until_alone()
        records = [record for record, _ in read_from("journal.jsonl", 0)]
        self._attempt = max((record.get("attempt") or 0 for record in records), default=0)
        problem = ""
        try:
            self._patiently(lambda: self._put_manifest({"whole": False}))
            self._list()
            for number, part in enumerate(self._parts):
                self._store(number, part)
            for one in [one for one in self._files if not one.sum]:
                self._miss(one.path, one.why or "it was not read", one.size)
            self._patiently(lambda: self._put_manifest(self._told(records)))
        except Over as over:
            problem = str(over)
        except Exception as error:  # its text might have a URL
            problem = "internal error: %s" % type(error).__name__
        signed_urls.hang_up()
        done = [] if problem else [one for one in self._files if one.sum]
        _record(
            attempt=self._attempt,
            files=len(done),
            bytes=sum(one.size for one in done),
            missing=self._missed,
            problem=problem,
        )

    # -- what there is

    def _list(self) -> None:
        noted = tree.Noted()
        found: dict[str, File] = {}
        given = received.given(".")
        for kind, patterns in (("code", self._supply["paths"]), ("outputs", None)):
            if patterns == []:
                continue
            others = received.files(".", kind)
            for path, size, mtime in tree.listing(kind, patterns, noted=noted):
                if (size, mtime) not in (others.get(path), given.get(path)):
                    found[path] = File(path, os.path.join(kind, path), size, mtime)
        self._look_elsewhere(self._supply.get("elsewhere") or [], found, noted)
        for path, size, mtime in self._small(self._supply.get("auto") or 0):
            found.setdefault(path, File(path, os.path.join("code", path), size, mtime))
        for path, why in noted.unreadable.items():
            self._miss(path or "the folder itself", why, 0)
        files = [found[path] for path in sorted(found)]
        for one in files[MOST_FILES:]:
            self._miss(one.path, "there are more than %d files" % MOST_FILES, one.size)
        self._files, self._parts, left_out = plan(files[:MOST_FILES], len(self._urls))
        for one in left_out:
            self._miss(one.path, "it is too large for %d parts" % len(self._urls), one.size)

    def _small(self, most: int) -> list[tree.Listed]:
        """Return the smallest other files that the run has written, of so many bytes together."""
        if not most:
            return []
        files, _, _ = written.listing(".", lambda: None)
        others = tree.matching(files, self._supply["paths"], False)
        return written.smallest(others, most)

    def _look_elsewhere(
        self, patterns: list[str], found: dict[str, File], noted: tree.Noted
    ) -> None:
        """Find what the job names by absolute paths, or by ``~``."""
        own = os.path.dirname(os.path.dirname(os.getcwd()))
        outside = elsewhere.Elsewhere(elsewhere.began("."), own, lambda: None, noted)
        for pattern in patterns:
            outside.look(pattern)
        places = sorted(outside.places, key=len, reverse=True)
        for path, size, mtime in outside.files.values():
            shown = next(one for one in places if path.startswith(one + "/"))
            place = outside.places[shown] + path[len(shown) :]
            found[path] = File(path, place, size, mtime)

    def _miss(self, path: str, why: str, size: int) -> None:
        self._missed, self._missed_bytes = self._missed + 1, self._missed_bytes + size
        if len(self._missing) < NAMED:
            self._missing.append((path, why))

    def _told(self, records: list[Message]) -> Message:
        """Return what the manifest says in the end."""
        return {
            "whole": not self._missed,
            "ending": _ending(records, self._attempt),
            "parts": [
                {"name": "part-%04d" % number, "size": part.length}
                for number, part in enumerate(self._parts, 1)
            ],
            "missing": [list(pair) for pair in self._missing],
            "missing_files": self._missed,
            "missing_bytes": self._missed_bytes,
        }

    # -- writing

    def _store(self, number: int, part: Part) -> None:
        before = self._sum.copy() if self._sum is not None else None

        def put() -> None:
            self._sum = before.copy() if before is not None else None
            body = _Body(self, part)
            self._send(self._urls[number], body, body.length, body.md5)

        self._patiently(put)

    def _put_manifest(self, more: Message) -> None:
        about = {name: self._supply[name] for name in ("run", "host", "hosts")}
        about.update(launcher=1, time=time.time(), attempt=self._attempt)
        pieces = [lean.dumps(dict(more, **about)).encode()[:-1]]
        if "ending" in more:  # there may be many: each is a text at once
            pieces += [
                b', "files": [',
                b",".join(one.told() for one in self._files if one.sum),
                b"]",
            ]
        text = b"".join([*pieces, b"}"])
        md5 = sums.md5_or_none()
        if md5:
            md5.update(text)
        self._send(self._manifest, [text], len(text), md5)

    def _send(self, url: str, data: Any, length: int, md5: Any) -> None:
        _, theirs = data_put.send(url, iter(data), length, self._supply["headers"])
        data_put.require_same(md5, theirs)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do it once nobody is in touch, again and again where that may help. Raises Over."""
        tries, since = 0, time.monotonic()
        while True:
            self._watch.until_alone()
            if time.monotonic() > self._until:
                raise Over("its URLs have expired")
            try:
                if tries:  # an answer may be lost where a store hangs up on what it refuses
                    self._put_manifest({"whole": False})
                work()
                return
            except Held:
                since = time.monotonic()
            except Refusal as refusal:
                raise Over(str(refusal))
            except (Again, OSError) as error:
                if time.monotonic() - since > GIVE_UP:
                    raise Over("%s, for a day" % _said(error))
                asked = min(getattr(error, "seconds", 0.0), 10 * PAUSE)
                pause = max(asked, min(0.5 * 2.0 ** min(tries, 10), PAUSE))
                time.sleep(pause * random.uniform(0.5, 1.0))
                tries += 1

    # -- reading

    def pieces(self, part: Part) -> Iterator[bytes]:
        """Yield the bytes of a part. Raises Held."""
        index, offset, left = part.start, part.offset, part.length
        while left:
            if not self._watch.is_alone:
                raise Held
            piece = self._piece(index, offset, min(left, manifest.PIECE))
            yield piece
            left, offset = left - len(piece), offset + len(piece)
            if index < len(self._files) and offset == self._files[index].length:
                index, offset = index + 1, 0

    def _piece(self, index: int, offset: int, most: int) -> bytes:
        """Return bytes of the archive from an offset in the entry of a file on."""
        if index == len(self._files):
            return TAIL[offset : offset + most]
        file = self._files[index]
        if offset < file.head:
            return file.header()[offset : offset + most]
        at = offset - file.head
        if at < file.size:
            return self._bytes(index, file, at, min(most, file.size - at))
        return bytes(min(most, file.length - offset))

    def _bytes(self, index: int, file: File, at: int, count: int) -> bytes:
        """Return bytes of a file; zeros where it is not any more what it was, which it is noted for."""
        if at == 0:
            self._close()
            self._sum, file.why = hashlib.sha256(), ""
        try:
            piece = os.pread(self._opened(index, file), count, at)
            while 0 < len(piece) < count:
                more = os.pread(self._opened(index, file), count - len(piece), at + len(piece))
                if not more:
                    break
                piece += more
        except OSError as error:
            piece, file.why = b"", str(error.strerror)
        if len(piece) < count:
            file.why = file.why or "it became shorter"
            piece += bytes(count - len(piece))
        self._sum.update(piece)
        if at + count == file.size:
            file.sum = "" if file.why else self._sum.hexdigest()
        return piece

    def _opened(self, index: int, file: File) -> int:
        if self._open and self._open[0] == index:
            return self._open[1]
        self._close()
        flags = os.O_RDONLY | os.O_NOFOLLOW
        opened = plain_files.opened(file.place, flags)
        self._open = (index, opened)
        status = os.fstat(opened)
        if (status.st_size, min(status.st_mtime_ns, tree.LATEST)) != (file.size, file.time):
            file.why = "it has changed"
        return opened

    def _close(self) -> None:
        if self._open:
            os.close(self._open[1])
            self._open = None


class _Body:
    """The bytes of a part, with their MD5 once they were read."""

    def __init__(self, upload: Upload, part: Part) -> None:
        self._upload, self._part, self.length = upload, part, part.length
        self.md5 = sums.md5_or_none()

    def __iter__(self) -> Iterator[bytes]:
        gathered = bytearray()  # of small files: each piece is a packet
        for piece in self._upload.pieces(self._part):
            if self.md5:
                self.md5.update(piece)
            gathered += piece
            if len(gathered) >= manifest.PIECE:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, Again) else signed_urls.what_failed(error)


def _ending(records: list[Message], attempt: int) -> Message:
    """Return what this host knows of how the run ended."""
    mine = [one for one in records if one.get("attempt") == attempt]
    stops = [one for one in mine if one["event"] == "StopRequested"]
    exits = [one for one in mine if one["event"] == "ProcessExited"]
    codes = {str(one.get("key")): one.get("code") for one in exits}
    return {
        "stopped": str(stops[-1].get("why")) if stops else "",
        "exit_codes": dict(list(codes.items())[:1000]),
    }


def _record(**fields: Any) -> None:
    """Write down how far it came, or have it written by the supervisor of a run that waits again."""
    import fcntl

    lock = plain_files.opened("supervisor.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _tell_supervisor(dict(fields, op="stored-alone"))
        return
    journal = Journal("journal.jsonl")
    journal.append("StoredAlone", **fields)
    journal.close()
    os.close(lock)


def _tell_supervisor(report: Message) -> None:
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as supervisor:
        try:
            supervisor.connect("sock")
            supervisor.sendall(protocol.encode(report))
        except OSError:
            pass  # it is of an earlier version, or just ending: whoever comes back stores all of it
