"""An index of packages on this machine's loopback, which no host reaches."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, unquote

from .http_server import answering, serving

_PIECE = 1 << 20


class PackageIndex:
    """The simple index of a folder of wheels and sources, with their metadata apart, as PyPI has it.

    ``read`` are the files that were asked for, and ``login`` is the header without which there is nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: list[str] = []
        self.login = ""
        self.has_sums = True
        self.has_length = True  # False: who breaks off looks as if that were all
        self.moves = False  # files are redirected to, on the same server
        self.cut = -1  # bytes after which files break off
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()  # without it, each file stops after its first bytes
        self._sums: dict[tuple[str, float], str] = {}
        self._server = answering(lambda asked: self.answer(asked), "127.0.0.1")  # tests replace it
        self.server = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.server}/simple"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request for a page of the index, or for a file."""
        kind, _, name = unquote(handler.path).strip("/").partition("/")
        if self.login and handler.headers.get("Authorization") != self.login:
            return _head(handler, 401, 0)
        if kind == "simple":
            page = self._page(name).encode()
            _head(handler, 200 if page else 404, len(page), "text/html")
            handler.wfile.write(page)
            return None
        if kind == "files" and self.moves:
            return _head(handler, 302, 0, Location=f"http://{self.server}/moved/{quote(name)}")
        kind = kind.replace("moved", "files")
        file = self.folder / name
        if name.endswith(".metadata"):
            told = _metadata(file.with_suffix(""))
            _head(handler, 200, len(told))
            handler.wfile.write(told)
            return None
        if kind != "files" or not file.is_file():
            return _head(handler, 404, 0)
        return self._send(handler, file)

    def _send(self, handler: BaseHTTPRequestHandler, file: Path) -> None:
        size = file.stat().st_size
        if handler.headers.get("Range") == "bytes=0-0" and self.has_length:
            span = {"Content-Range": f"bytes 0-0/{size}"}
            _head(handler, 206, 1, **span)
            handler.wfile.write(file.read_bytes()[:1])
            return
        self.read.append(file.name)
        _head(handler, 200, size if self.has_length else None)
        if self.cut >= 0:
            handler.wfile.write(file.read_bytes()[: self.cut])
            return
        with file.open("rb") as source:
            handler.wfile.write(source.read(10))
            handler.wfile.flush()
            self.reached.set()
            self.go_on.wait(60)
            while piece := source.read(_PIECE):
                handler.wfile.write(piece)

    def _page(self, name: str) -> str:
        links = []
        for file in sorted(self.folder.iterdir()):
            if file.name.partition("-")[0].lower().replace("_", "-") == name:
                end = f"#sha256={self._sum(file)}" if self.has_sums else ""
                apart = ' data-core-metadata="true"' if file.suffix == ".whl" else ""
                links.append(f'<a href="/files/{quote(file.name)}{end}"{apart}>{file.name}</a>')
        return f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>" if links else ""

    def _sum(self, file: Path) -> str:
        key = (file.name, file.stat().st_mtime)
        if key not in self._sums:
            self._sums[key] = hashlib.sha256(file.read_bytes()).hexdigest()
        return self._sums[key]

    @contextmanager
    def serving(self) -> Iterator[PackageIndex]:
        """Answer, until the end of the block."""
        with serving(self._server):
            try:
                yield self
            finally:
                self.go_on.set()


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as opened:
        name = next(n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        return opened.read(name)


def _head(
    handler: BaseHTTPRequestHandler,
    status: int,
    size: int | None,
    kind: str = "application/octet-stream",
    **headers: str,
) -> None:
    handler.send_response(status)
    handler.send_header("Connection", "close")
    length = {} if size is None else {"Content-Length": str(size)}
    for name, value in {"Content-Type": kind, **length, **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
