"""The messages between launcher and a host, and how they are framed.

A message is one line of JSON. One with a ``size`` is followed by that many raw bytes, so log bytes
need no encoding. The first line that a relay writes carries ``MAGIC``; anything that a login shell
printed before it is skipped.

Requests are ``{"id": n, "op": "...", ...}`` and are answered in order, by ``{"id": n, "ok": {...}}``
or ``{"id": n, "error": {"code", "message"}}``. The code is ``unknown-request`` where the receiver's
version lacks the request, and ``bad-request`` where a field is missing or has another type. No
message ends a relay or a supervisor. ``{"ack": n}`` acknowledges n bytes of logs. Without a request,
a relay sends

``{"journal": {...}, "end": offset}``            one record of the journal
``{"log": name, "offset": n, "size": k}`` + raw  bytes of a log, at their offset in the host's file
``{"id": n, "part": {...}}``                     a part of a long answer, in front of its last one
``{"working": 1}``                               the answer takes time
``{"idle": {name: size}}``                       everything has stopped and was sent: final log sizes
"""

from __future__ import annotations

try:  # as the standard library's own random.py does: hashlib loads OpenSSL, for milliseconds
    from _blake2 import blake2b as blake2b
except ImportError:
    from hashlib import blake2b as blake2b

from . import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .messages import Message

MAGIC = "launcher-agent"
#: Grows when a request or a field changes its meaning, not when one is added. A side that meets
#: another version refuses, and names both.
VERSION = 1
UNKNOWN_REQUEST, BAD_REQUEST, OTHER_VERSION = "unknown-request", "bad-request", "other-version"

#: Log bytes that a relay sends before they are acknowledged. It bounds how much an urgent event
#: waits for on a slow link, and the memory of both sides.
WINDOW = 1 << 20
#: Largest piece of a log in one message.
PIECE = 1 << 17
#: The file of a host's metrics in the folder of a run there, and what stands for it where logs are sent.
METRICS = "metrics.jsonl"
#: The named pipe in the folder of a run from which rank 0 reads, where the user has something for it.
STDIN = "stdin"
#: What stands before the paths of outputs that travel as logs do, and how many of a host do.
LIVE, LIVE_FILES = "live/", 256
#: Bytes of such a file that travel so, and of one in a message: nothing else waits long for it.
LIVE_BYTES, LIVE_PIECE = 1 << 28, 1 << 15
#: Largest ``size`` that is accepted.
LARGEST = 1 << 24
#: Longest line that is accepted, in bytes.
MAX_LINE = 64 << 20
#: Most values in one line; each takes 50 times the memory of its two bytes.
MAX_VALUES = 4 << 20

#: Most files that a host lists as outputs, and characters of all their paths; the rest stays there.
MOST_FILES, MOST_CHARACTERS = 1 << 20, 128 << 20

#: Prefixes of process keys that are not named after a role; a number follows. Also in
#: launcher.spec.process_key.
RANK, SETUP = "rank-", "setup-"

#: Why a host stops the processes of a run; launcher.records.reasons has these and more.
PROCESS_FAILED, PRIMARY_FINISHED = "process-failed", "primary-finished"
ORPHAN_TIMEOUT, TIME_LIMIT, WAIT_OVER = "orphan-timeout", "time-limit", "wait-over"
PREEMPTED, RESTARTING = "preempted", "restarting"
LOGIN_SESSION_ENDED, SUPERVISOR_TERMINATED = "login-session-ended", "supervisor-terminated"
HOSTS_PARTED, NOT_NEEDED = "hosts-parted", "not-needed"
#: Seconds that a primary process has to finish exiting when another one fails because it left.
PRIMARY_PATIENCE = 1.0

#: Exit status of a process that could not be executed, as in a shell.
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def not_started(error: OSError) -> int:
    """Return the exit status of a process that could not be executed for ``error``."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def is_live(path: str) -> bool:
    """Return whether programs only ever append to such an output: files of TensorBoard, and of W&B."""
    name = path.rpartition("/")[2]
    return ".tfevents." in name or (name[:4] == "run-" and name[-6:] == ".wandb")


def encode(message: Mapping[str, Any], payload: bytes | bytearray = b"") -> bytes:
    """Return one message as bytes; ``payload`` follows it raw."""
    if payload:
        message = dict(message, size=len(payload))
    return lean.dumps(message).encode("ascii") + b"\n" + payload


def error(code: str, message: str) -> Message:
    """Return the answer to a request that cannot be done."""
    return {"error": {"code": code, "message": message}}


def other_version(theirs: object, who: str) -> str:
    """Return the complaint about ``who``, which speaks version ``theirs``; "" when that is ours.

    The only place that compares versions. No version means the first.
    """
    if theirs is None or theirs == VERSION:
        return ""
    return "%s speaks version %.20s of the protocol; this launcher speaks %d" % (
        who,
        theirs,
        VERSION,
    )


class Refused(Exception):
    """A request that cannot be done: ``code`` for programs, the text for people."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code, self.more = code, more


class Decoder:
    """Turn a stream of bytes into ``(message, payload)`` pairs.

    Raises ValueError on a line that is not JSON or is longer than ``MAX_LINE``. With ``forgiving``
    such a line becomes ``({"bad": why}, b"")`` instead, and the next one is read.
    """

    def __init__(self, forgiving: bool = False) -> None:
        self._buffer = bytearray()
        self._message: Message | None = None
        self._need = 0
        self._forgiving = forgiving

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """Return all messages that ``data`` completes."""
        self._buffer += data
        found: list[tuple[Message, bytes]] = []
        start = 0
        while True:
            if self._message is None:
                end = self._buffer.find(b"\n", start)
                if end < 0:
                    break
                line, start = bytes(self._buffer[start:end]), end + 1
                try:
                    self._message, self._need = _message(line)
                except ValueError as error:
                    found.append(self._refused(error))
                    continue
            if len(self._buffer) - start < self._need:
                break
            with memoryview(self._buffer) as view:
                payload = bytes(view[start : start + self._need])
            start += self._need
            found.append((self._message, payload))
            self._message = None
        del self._buffer[:start]
        if self._message is None and len(self._buffer) > MAX_LINE:
            self._buffer.clear()
            found.append(self._refused(ValueError("a message line is too long")))
        return found

    def _refused(self, error: ValueError) -> tuple[Message, bytes]:
        if not self._forgiving:
            raise error
        return {"bad": str(error)}, b""


def _message(line: bytes) -> tuple[Message, int]:
    """Return the message of a line, and how many bytes follow it. Raises ValueError."""
    if line.count(b",") + line.count(b"[") + line.count(b"{") > MAX_VALUES:
        raise ValueError("a message has too many values")
    try:
        message = lean.loads(line.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep")
    if not isinstance(message, dict):
        raise ValueError("not a message: %.80r" % (message,))
    size = message.get("size", 0)
    if not isinstance(size, int) or not 0 <= size <= LARGEST:
        raise ValueError("not a size: %.80r" % (size,))
    return message, size


class Fingerprint:
    """A hash of what rsync's quick check compares: paths, sizes, times, executable bits.

    Both sides compute it: when the fingerprints are equal there is nothing to copy. Add entries in
    the order of their paths as bytes.
    """

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.files = 0
        self.bytes = 0

    def file(self, path: bytes, size: int, mtime_ns: int, executable: bool) -> None:
        self._entry(b"f", path, "%d %d %d" % (size, mtime_ns, executable))
        self.files += 1
        self.bytes += size

    def link(self, path: bytes, target: bytes) -> None:
        self._hash.update(b"l" + path + b"\0" + target + b"\0")
        self.files += 1

    def _entry(self, kind: bytes, path: bytes, text: str) -> None:
        self._hash.update(kind + path + b"\0" + text.encode("ascii") + b"\0")

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
