"""An HTTP server in a thread of a test."""

from __future__ import annotations

from http.server import ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """One that is closed with all its connections: ``server_close`` waits for their threads."""

    daemon_threads = False
