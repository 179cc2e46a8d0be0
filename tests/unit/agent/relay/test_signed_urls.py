"""Connections to a store that serve several requests, and what a store may do to them."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from launcher.agent.base import manifest
from launcher.agent.relay import signed_urls
from launcher.agent.relay.data.fetch import Fetch
from launcher.agent.relay.data.put import Put
from support.http_server import Server

CONTENT = b"some bytes" * 1000
COUNT = 40


class Store:
    """A store that keeps connections open, and does something once it has answered."""

    def __init__(
        self, then: Callable[[BaseHTTPRequestHandler], None], secure: ssl.SSLContext | None
    ) -> None:
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

        self.scheme = "https" if secure else "http"
        self.server = Server(("127.0.0.1", 0), Handler)
        if secure:
            self.server.socket = secure.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}/bucket/key?X-Amz-Signature=0"

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


@pytest.fixture(params=["http", "https"])
def secure(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ssl.SSLContext | None]:
    """What a store has for TLS; its authority is one that this host trusts."""
    if request.param == "http":
        yield None
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "store.pem"
    text = certificate.public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    file.write_bytes(text + key.private_bytes(*form, serialization.NoEncryption()))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    signed_urls._secure.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    yield context
    signed_urls._secure.cache_clear()


@pytest.fixture
def serve(secure: ssl.SSLContext | None) -> Iterator[Callable[..., Store]]:
    """Start stores that stop with the test."""
    stores: list[Store] = []

    def start(then: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None) -> Store:
        stores.append(Store(then, secure))
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


def test_an_error_of_tls_is_none_of_the_disk(serve: Callable[..., Store]) -> None:
    """TLS has numbers of its own, and one of them is that of a broken disk: it is asked again."""
    request = signed_urls.request_for(serve().url, False)
    with pytest.raises(signed_urls.Again), signed_urls.answer(request, 10.0):
        raise ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "Some I/O error occurred")
