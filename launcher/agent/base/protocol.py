"""The words that launcher and a host say to each other, and how they are framed.

A message is one line of JSON. One with a ``size`` is followed by that many raw bytes, so log bytes
travel as they are. The first line that a relay writes carries ``MAGIC``; whatever a login shell
printed before it is skipped.

Requests are ``{"id": n, "op": "...", ...}`` and are answered by ``{"id": n, "ok": {...}}`` or
``{"id": n, "error": {"code", "message"}}``, one after the other. ``{"ack": n}`` says that n bytes of
logs were taken. Unasked, a relay sends

``{"journal": {...}, "end": offset}``            one record of the journal
``{"log": name, "offset": n, "size": k}`` + raw  bytes of a log, at their offset in the host's file
``{"working": 1}``                               the answer takes time
``{"idle": {name: size}}``                       all is ended and sent: the final size of every log
"""

try:  # as the standard library's own random.py does: hashlib loads OpenSSL, for milliseconds
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

from . import lean

MAGIC = "launcher-agent"
VERSION = 1

#: Log bytes that a relay sends ahead of their acknowledgement. It bounds what stands in front of an
#: urgent event on a slow link, and the memory of both sides.
WINDOW = 1 << 20
#: Largest piece of a log in one message.
PIECE = 1 << 17
#: A line longer than this is not ours.
MAX_LINE = 64 << 20

#: What keys of processes begin with where they are not named after a role; a number follows.
#: launcher.spec.process_key has the same.
RANK, SETUP = "rank-", "setup-"

#: Why a host asks the processes of a run to stop; launcher.records.reasons has these and more.
PROCESS_FAILED, PRIMARY_FINISHED = "process-failed", "primary-finished"
ORPHAN_TIMEOUT = "orphan-timeout"
LOGIN_SESSION_ENDED, SUPERVISOR_TERMINATED = "login-session-ended", "supervisor-terminated"
#: Seconds that a primary process which is just exiting has, when another one fails because of that.
PRIMARY_PATIENCE = 1.0

#: Exit status of a process that could not be executed at all, as a shell gives it.
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def encode(message, payload=b""):
    """One message as bytes; ``payload`` follows it raw."""
    if payload:
        message = dict(message, size=len(payload))
    return lean.dumps(message).encode("ascii") + b"\n" + payload


class Decoder:
    """Turns a stream of bytes into ``(message, payload)`` pairs.

    Raises ValueError on a line that is not JSON or is longer than ``MAX_LINE``.
    """

    def __init__(self):
        self._buffer = bytearray()
        self._message = None
        self._need = 0

    def feed(self, data):
        """All messages that ``data`` completes."""
        self._buffer += data
        found = []
        start = 0
        while True:
            if self._message is None:
                end = self._buffer.find(b"\n", start)
                if end < 0:
                    break
                self._message = lean.loads(bytes(self._buffer[start:end]).decode("utf-8"))
                if not isinstance(self._message, dict):
                    raise ValueError("not a message: %r" % (self._message,))
                self._need = self._message.get("size", 0)
                if not isinstance(self._need, int) or self._need < 0:
                    raise ValueError("not a size: %r" % (self._need,))
                start = end + 1
            if len(self._buffer) - start < self._need:
                break
            payload = bytes(self._buffer[start : start + self._need])
            start += self._need
            found.append((self._message, payload))
            self._message = None
        del self._buffer[:start]
        if self._message is None and len(self._buffer) > MAX_LINE:
            raise ValueError("a message line is too long")
        return found


class Fingerprint:
    """What a tree of code looks like to rsync's quick check: paths, sizes, times, executable bits.

    Both sides compute it: equal fingerprints mean that there is nothing to copy. Add entries in
    the order of their paths as bytes.
    """

    def __init__(self):
        self._hash = blake2b(digest_size=16)
        self.files = 0
        self.bytes = 0

    def file(self, path, size, mtime_ns, executable):
        self._entry(b"f", path, "%d %d %d" % (size, mtime_ns, executable))
        self.files += 1
        self.bytes += size

    def link(self, path, target):
        self._hash.update(b"l" + path + b"\0" + target + b"\0")
        self.files += 1

    def _entry(self, kind, path, text):
        self._hash.update(kind + path + b"\0" + text.encode("ascii") + b"\0")

    def hexdigest(self):
        return self._hash.hexdigest()
