"""Serves the console on loopback."""

from __future__ import annotations

import pwd
import signal
import socket
from collections.abc import Callable, Collection
from contextlib import suppress

import uvicorn

from ..api.client import AsyncClient, write_at_home
from ..spec.errors import InputError
from .app import Console
from .browser import has_screen, remove, show
from .doorkeeper import doorkeeper
from .guard import HEAD, Session, token_file
from .peers import GONE

#: Connections at once, and seconds that answers get at the end, at which streams end by themselves.
_CONNECTIONS, _GOODBYE = 200, 3


def serve(
    port: int,
    browser: bool,
    tell: Callable[[str], None],
    *,
    read_only: bool = False,
    client: AsyncClient | None = None,
    tell_refused: Callable[[str], None] = lambda user: None,
    hangups: Collection[signal.Signals] = (signal.SIGTERM,),
) -> None:
    """Serve until Ctrl-C or a signal of ``hangups`` comes; ``tell`` gets the address. Port 0 takes a
    free one, and the hosts are those of the client. ``tell_refused`` gets the name of each other user
    who tries to connect, once.

    Raises InputError if the port cannot be had.
    """
    with _listening(port) as listener:
        session = Session(listener.getsockname()[1], read_only)
        address = f"http://127.0.0.1:{session.port}/#{session.code}"
        console = Console(session, client)
        server = uvicorn.Server(
            uvicorn.Config(
                console.app(),
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                http=doorkeeper(_Refusals(tell_refused)),
                ws="none",
                h11_max_incomplete_event_size=HEAD,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=_GOODBYE,
            )
        )
        console.is_ending = lambda: server.should_exit
        _end_in_order(hangups)
        token, page = token_file(session.port), f"console-{session.port}.html"
        try:
            with suppress(OSError):  # without a disk to write to, pages are served all the same
                write_at_home(token, session.header + "\n")
            tell(address)
            with suppress(OSError):
                if browser and has_screen():
                    show(address, page)
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn raises the signal again after it has ended
        finally:
            remove(token, session.header)
            remove(page, address)


def _end_in_order(hangups: Collection[signal.Signals]) -> None:
    """Let these signals end this process as Ctrl-C does, so that its files go."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for number in {*hangups} - {signal.SIGTERM}:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))


class _Refusals:
    """Passes on the name of each user who was refused, once."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._known = tell, set[int]()

    def __call__(self, user: int) -> None:
        if user == GONE or user in self._known:
            return
        self._known.add(user)
        try:
            self._tell(pwd.getpwuid(user).pw_name)
        except KeyError:
            self._tell(f"user {user}")


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()  # whoever reads the address may connect at once
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise InputError(
            f"the console cannot use port {port}: {why}", "another one: --port 0 takes a free port"
        ) from None
    return listener
