"""Connections to a store that serve several requests, and what a store may do to them."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from launcher.agent.base import manifest
from launcher.agent.relay.data_fetch import Fetch
from launcher.agent.relay.data_put import Put
from support.http_server import Server

CONTENT = b"some bytes" * 1000
COUNT = 40


class Store:
    """A store that keeps connections open, and does something once it has answered."""

    def __init__(self, then: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.connections = self.requests = 0
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                store.connections += 1
                super().setup()

            def do_GET(self) -> None:
                self._answer(CONTENT)

            def do_PUT(self) -> None:
                assert self.rfile.read(int(self.headers["Content-Length"])) == CONTENT
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                store.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.md5(CONTENT).hexdigest()}"')
                self.end_headers()
                self.wfile.write(body)
                then(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/bucket/key?X-Amz-Signature=0"

    def read(self, folder: Path) -> list[list[str]]:
        """Read objects into a folder; return what failed."""
        tag = manifest.ETAG + hashlib.md5(CONTENT).hexdigest().encode()
        entries = [manifest.Entry(b"%d" % n, len(CONTENT), False, tag) for n in range(COUNT)]
        reading = Fetch(str(folder), 30.0)
        reading.run([(one, self.url) for one in entries], lambda: None)
        return reading.failed

    def write(self, folder: Path) -> list[str]:
        """Write a file as several objects; return what went wrong."""
        (folder / "outputs").mkdir()
        (folder / "outputs" / "file").write_bytes(CONTENT)
        size = len(CONTENT)
        part = {"folder": "outputs", "path": "file", "size": size, "offset": 0, "length": size}
        writing = Put(str(folder), [{**part, "url": self.url, "headers": {}}] * COUNT)
        writing.run(lambda: None)
        return [text for _, _, _, text in writing.results if text]


@pytest.fixture
def serve() -> Iterator[Callable[..., Store]]:
    """Start stores that stop with the test."""
    stores: list[Store] = []

    def start(then: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None) -> Store:
        stores.append(Store(then))
        return stores[-1]

    yield start
    for store in stores:
        store.server.shutdown()
        store.server.server_close()
        store.thread.join()


def test_a_connection_serves_many_objects(serve: Callable[..., Store], tmp_path: Path) -> None:
    """Each thread has one, for what it reads and for what it writes."""
    store = serve()
    assert store.read(tmp_path) == []
    assert (store.requests, store.connections <= 8) == (COUNT, True)
    assert store.write(tmp_path) == []
    assert (store.requests, store.connections <= 16) == (2 * COUNT, True)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Close a connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def test_a_connection_that_the_store_closes_is_replaced(
    serve: Callable[..., Store], tmp_path: Path
) -> None:
    """It is no failure, also without a word of it before."""
    store = serve(cut)
    assert store.read(tmp_path) == []
    assert store.write(tmp_path) == []
    assert store.requests == 2 * COUNT
