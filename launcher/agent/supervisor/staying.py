"""Keeps the process of a supervisor whose attempt is over, for the next one: a Python of it has imported
modules, and only its own children can be ranks here.

The attempt itself has ended: its last record is written, its GPUs are free, and who followed it was
told by the end of the connection. From then on a relay holds a line, which is how a launcher says that
another attempt may follow. See docs/decisions/0077-kept-warm.md.

A run that has given its GPUs back waits again in this process: docs/decisions/0090-back-in-the-queue.md.
"""

from __future__ import annotations

import os
import select
import time

from ..base import protocol
from ..processes import processes
from . import requests
from .supervisor import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.lean import Socket
    from ..base.messages import Message, SupervisorSpec

    #: Begins to store outputs: see relay/unattended.py.
    Store = Callable[[Message, float, float, bool], None]

#: Seconds for a relay to take hold of the line; and most seconds without a word of the launcher.
FIRST, SILENT = 10.0, 60.0
#: Seconds between two looks, and for killed processes to be gone.
LOOK, GONE = 1.0, 2.0


def until_next(owner: Supervisor) -> Supervisor | None:
    """Wait until the launcher begins another attempt, and return the supervisor of that; None once no
    other is to follow: then nothing of the run is left here."""
    return _Stay(owner).until_next()


def next_attempt(owner: Supervisor, store: Store | None) -> Supervisor:
    """Return the supervisor that waits with the next attempt of a run, in this process.

    ``store`` begins to store its outputs, for the time that nobody is in touch.
    """
    left = owner.left_to_store()
    if left and store:
        store(*left)
    owner.broadcast.close()
    owner.journal.close()
    processes.unwatch_signals(owner.signals)
    attempt = owner.machine.attempt + 1
    spec: SupervisorSpec = dict(owner.spec, attempt=attempt)  # type: ignore[assignment]
    made = Supervisor(spec, owner.own_hosts, owner)
    made.wait_again(owner)
    return made


class _Stay:
    def __init__(self, owner: Supervisor) -> None:
        self._owner, self._clients = owner, owner.clients
        self._holders: set[Socket] = set()  # relays
        self._until = time.monotonic() + FIRST
        self._over = False
        self._next: Supervisor | None = None
        self._leaving: list[Socket] = []  # who asked to stop, and waits for the end of that
        if not owner.broadcast.is_needed:
            owner.broadcast.close()
        self._clients.part()

    def until_next(self) -> Supervisor | None:
        while not self._over and self._next is None:
            self._turn()
        if self._next is None:
            self._end()
        return self._next

    def _turn(self) -> None:
        owner, now = self._owner, time.monotonic()
        broadcast = owner.broadcast  # of a hub: other hosts may still listen
        readable: list[Any] = [owner.signals, *self._clients.sockets, *broadcast.readable]
        pause = max(0.0, min(LOOK, self._until - now))
        ready, takes, _ = select.select(readable, self._clients.writable, [], pause)
        for one in takes:
            self._clients.flush(one)
        for one in ready:
            if one == owner.signals:
                os.read(owner.signals, 512)
            elif one in broadcast.readable:
                broadcast.look(one)
            elif one in self._clients.sockets and self._next is None:
                self._hear(one)
        self._keep_time(time.monotonic())

    def _keep_time(self, now: float) -> None:
        if self._next is not None:
            return
        owner = self._owner
        for _ in owner.children.exits():
            pass  # helpers, and whom nobody knows any more
        owner.broadcast.keep_time(now)
        if owner.broadcast.readable and not owner.broadcast.is_needed:
            owner.broadcast.close()
        gone = self._holders - {*self._clients.sockets}
        self._holders -= gone
        if owner.terminated or now >= self._until or (gone and not self._holders):
            self._over = True

    def _hear(self, ready: Socket) -> None:
        for client, message in self._clients.hear(ready):
            try:
                answer = self._answer(client, requests.checked(message), message)
            except requests.Refused as refusal:
                answer = protocol.error(refusal.code, str(refusal))
            if answer is not None:
                self._clients.send(client, answer)
            if "bad" in message or message.get("op") == "subscribe":
                self._clients.hang_up(client)  # there is nothing more to follow
            if self._next is not None:
                return

    def _answer(self, client: Socket, operation: str, message: Any) -> Message | None:
        if operation == "stay":
            self._holders.add(client)
            self._until = time.monotonic() + SILENT
            return None
        if operation == "subscribe":
            return {"ok": {"version": protocol.VERSION}}
        if operation == "next":
            if self._fits(message["spec"]):
                self._go_on(message["spec"])
                return {"ok": {"stayed": 1}}
            self._over = True
        if operation == "stop":
            if message.get("why") == protocol.RESTARTING:
                return {"ok": {}}
            self._over = True
            self._leaving.append(client)
            return None
        return protocol.error("stopped", "the attempt is over")

    def _fits(self, spec: SupervisorSpec) -> bool:
        """Return whether this process is what a new one would be."""
        return bool(spec.get("own_hosts")) == bool(self._owner.own_hosts)

    def _go_on(self, spec: SupervisorSpec) -> None:
        owner = self._owner
        owner.broadcast.close()
        owner.journal.close()
        processes.unwatch_signals(owner.signals)
        self._next = Supervisor(spec, owner.own_hosts, owner)

    def _end(self) -> None:
        """Kill what has imported modules, and wait for that, unless it is kept for other runs."""
        owner, deadline = self._owner, time.monotonic() + GONE
        ahead = owner.ahead
        ahead.keeps = ahead.keeps and not owner.terminated
        if ahead.warm and not ahead.keeps:
            ahead.cool()
            while ahead.warm.pids and time.monotonic() < deadline:
                for _ in owner.children.exits():
                    pass
                time.sleep(0.002)
        for client in self._leaving:
            self._clients.send(client, {"ok": {}})
