"""Serves TensorBoard over the outputs of runs to this user alone.

TensorBoard itself asks nobody who they are and answers to any name, so that every user of this machine
and every page in a browser could read it. Here its address holds a secret, connections of other users
are closed, and requests for another host are refused.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tensorboard import program

from ..records import live_files
from ..spec.errors import InputError
from .peers import user_of

_HEADERS = (("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"))

#: Seconds between two looks for new files of runs.
EVERY = 2.0

App = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]


class Links:
    """Links to the outputs of runs, by name, in an empty folder: as long as it is entered, new ones are
    added."""

    def __init__(self, runs: Mapping[str, Path], place: Path) -> None:
        self._runs, self._place = runs, place
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(EVERY):
            self._look()

    def _look(self) -> None:
        """Link the outputs of each run. Where some travel as logs do, the files are linked one by one,
        and so they are from then on."""
        for name, folder in self._runs.items():
            here = self._place / name
            with suppress(OSError):
                if here.is_dir() and not here.is_symlink():
                    live_files.lay_together(folder, here)
                elif (folder / live_files.LIVE).is_dir():
                    here.unlink(missing_ok=True)
                    here.mkdir()
                    live_files.lay_together(folder, here)
                elif not here.is_symlink():
                    here.symlink_to(folder / "outputs")


def start(place: Path, port: int = 0) -> str:
    """Start TensorBoard in a thread over a folder; return its address.

    Raises InputError if the port cannot be had.
    """
    secret = secrets.token_urlsafe(32)
    board = program.TensorBoard(server_class=_server(secret))
    board.configure(
        logdir=str(place),
        host="127.0.0.1",
        port=port,
        path_prefix=f"/{secret}",
        load_fast="false",  # the other loader is a program with a port of its own
        window_title="TensorBoard · launcher",
    )
    try:
        return str(board.launch())
    except program.TensorBoardServerException as error:
        raise InputError(
            f"TensorBoard cannot use port {port}: {error.msg}",
            "another one: --port 0 takes a free port",
        ) from None


def _server(secret: str) -> type[program.WerkzeugServer]:
    class Server(program.WerkzeugServer):  # type: ignore[misc] # it has no types
        """TensorBoard's server, for one user."""

        def __init__(self, app: App, flags: Any) -> None:
            super().__init__(guarded(app, secret, lambda: int(self.server_port)), flags)

        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Take connections of this user, and of root, as which sshd forwards ports."""
            user = user_of(request.getsockname(), client_address)
            return user in (None, 0, os.getuid())

    return Server


def guarded(app: App, secret: str, port: Callable[[], int]) -> App:
    """Return a WSGI application that answers by this secret, and on this machine's names, alone."""

    def answer(environ: Mapping[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_HOST") not in (f"127.0.0.1:{port()}", f"localhost:{port()}"):
            return _refused(begin, "421 Misdirected Request")
        first = str(environ.get("PATH_INFO", "")).split("/")[1:2]
        if not first or not secrets.compare_digest(
            first[0].encode("utf-8", "replace"), secret.encode()
        ):
            return _refused(begin, "404 Not Found")

        def with_headers(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return begin(status, [*headers, *_HEADERS], *rest)

        return app(environ, with_headers)

    return answer


def _refused(begin: Callable[..., Any], status: str) -> Iterable[bytes]:
    begin(status, [("Content-Type", "text/plain"), *_HEADERS])
    return [b"Open the address that launcher tensorboard printed.\n"]
