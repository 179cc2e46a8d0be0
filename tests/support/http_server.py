"""HTTP servers in a thread of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Server(ThreadingHTTPServer):
    """One that is closed with all its connections: ``server_close`` waits for their threads."""

    daemon_threads = False


class Quiet(BaseHTTPRequestHandler):
    """Prints nothing about requests."""

    def log_message(self, *_: object) -> None:
        pass


def answering(answer: Callable[[BaseHTTPRequestHandler], None], address: str) -> Server:
    """Return a server that has a function answer, with a connection for each request."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            answer(self)

    return Server((address, 0), Handler)


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Serve until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def store_with_answers() -> Iterator[tuple[str, list[dict[str, str]], list[Any]]]:
    """Yield the URL of a store, the queries that it was asked, and its answers to the next requests: each
    a status, a body and maybe a date."""
    queries: list[dict[str, str]] = []
    answers: list[Any] = []

    class Handler(Quiet):
        def do_GET(self) -> None:
            queries.append(dict(parse_qsl(urlsplit(self.path).query)))
            status, body, *date = answers.pop(0)
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            for moment in filter(None, date):
                self.send_header("Date", moment)
            self.end_headers()
            self.wfile.write(body)

    server = Server(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}", queries, answers
