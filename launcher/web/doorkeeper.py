"""Decides at the door which connections the console takes: those of its own user, which say soon what
they want."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from .peers import user_of

#: Seconds in which the head of a first request arrives.
PATIENCE = 10.0


class Doorkeeper(H11Protocol):
    """uvicorn's protocol, which closes connections of other users before it reads a byte of them.

    Root may do everything anyway, and sshd may be root where it forwards a port.
    """

    refused: ClassVar[Callable[[int], None]] = lambda user: None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it."""
        here, there = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        user = user_of(here, there) if here and there else None
        if user not in (None, 0, os.getuid()):
            transport.abort()
            type(self).refused(user)
            return
        super().connection_made(transport)
        self._timer = self.loop.call_later(PATIENCE, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._timer is not None:  # it was taken
            self._timer.cancel()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, except what came before the connection was refused."""
        if self._timer is not None:
            super().data_received(data)

    def _late(self) -> None:
        if self.cycle is None:
            self.transport.close()


def doorkeeper(refused: Callable[[int], None]) -> type[Any]:
    """Return the protocol; ``refused`` gets the user id of whoever is not let in."""
    return type("OneDoorkeeper", (Doorkeeper,), {"refused": staticmethod(refused)})
