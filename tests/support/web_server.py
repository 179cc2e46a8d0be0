"""A web server in a thread of a test, which does what real ones do on a bad day."""

from __future__ import annotations

import email.utils
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from .http_server import answering, serving

_PIECE = 1 << 16


class Web:
    """Files by path. Change these fields as a test needs it."""

    def __init__(self, address: str) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}  # where a path is redirected to
        self.has_ranges = True
        self.tag: Callable[[bytes], str] = lambda data: f'"{hash(data)}"'  # ETag, "" for none
        self.changed = 1.7e9  # Last-Modified; 0 for none
        self.has_length = True  # False: chunked
        self.has_end = True  # False: the end of the connection is that of the file, too
        self.refusals: list[int] = []  # the next answers
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.longer = 0  # bytes that answers promise and do not have
        self.stalls = threading.Event()  # answers stop after their first bytes
        self.stalled = threading.Event()  # one has
        self.release = threading.Event()
        self.before: Callable[[], None] = lambda: None  # called with each request
        self.sent = 0  # bytes of files; not the first one alone, which nobody waits for
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = answering(lambda asked: self.answer(asked), address)  # tests replace it
        self.url = f"http://{address}:{self._server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        self.before()
        with self._lock:
            part = handler.headers.get("Range") or ""
            self.requests.append((handler.path, part))
            refusal = self.refusals.pop(0) if self.refusals else 0
            is_file = handler.path in self.files and part != "bytes=0-0" and not refusal
            cut = self.cuts.pop(0) if self.cuts and is_file else -1
        data = self.files.get(handler.path)
        if handler.path in self.moved:
            self._head(handler, 302, 0, Location=self.moved[handler.path])
        elif refusal or data is None:
            self._head(handler, refusal or 404, 0)
        else:
            self._send(handler, data, part if self.has_ranges else "", cut)

    def _send(self, handler: BaseHTTPRequestHandler, data: bytes, part: str, cut: int) -> None:
        about = {"ETag": self.tag(data)} if self.tag(data) else {}
        if self.changed:
            about["Last-Modified"] = email.utils.formatdate(self.changed, usegmt=True)
        status, whole = 200, len(data)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", part):
            first, last = int(found[1]), int(found[2] or whole - 1)
            if first >= whole:
                self._head(handler, 416, 0)
                return
            status, data = 206, data[first : last + 1]
            about["Content-Range"] = f"bytes {first}-{first + len(data) - 1}/{whole}"
        self._head(handler, status, len(data) + self.longer, **about)
        if self.stalls.is_set() and part != "bytes=0-0":
            handler.wfile.write(data[:100])
            handler.wfile.flush()
            self.stalled.set()
            self.release.wait()
        view = memoryview(data if cut < 0 else data[:cut])
        try:
            for at in range(0, len(view), _PIECE):
                piece = view[at : at + _PIECE]
                with self._lock:
                    self.sent += len(piece) if part != "bytes=0-0" else 0
                chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
                handler.wfile.write(piece if self.has_length or not self.has_end else chunk)
            if not self.has_length and self.has_end and cut < 0:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # who asked has had enough

    def _head(self, handler: BaseHTTPRequestHandler, status: int, length: int, **more: str) -> None:
        handler.send_response(status)
        if self.has_length or status != 200:
            handler.send_header("Content-Length", str(length))
        elif self.has_end:
            handler.send_header("Transfer-Encoding", "chunked")
        for name, value in more.items():
            handler.send_header(name, value)
        handler.end_headers()

    @contextmanager
    def running(self) -> Iterator[Web]:
        """Serve for a while."""
        with serving(self._server):
            try:
                yield self
            finally:
                self.release.set()
