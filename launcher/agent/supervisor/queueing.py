"""The wait of a run for GPUs in the queue of its host, with nobody in touch, until it begins by itself.

It waits alone (waiting.py) or together with other hosts (gathered.py), and begins at most once.
"""

from __future__ import annotations

import errno
import time

from ..base import protocol
from .claims import port_taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..base.journal import Journal
    from ..base.lean import Socket
    from ..base.messages import (
        GatherRequest,
        Given,
        MemberRequest,
        Message,
        StartRequest,
        Way,
    )
    from .claims import Claims
    from .gathered import Gathered
    from .machine import Machine
    from .waiting import Waiting

    class Owner(Protocol):
        """The supervisor."""

        run_id: str
        host: str
        journal: Journal
        machine: Machine
        claims: Claims

        def record(self, event: str, **fields: Any) -> None:
            """Write an event into the journal."""

        def tell(self, record: Message) -> None:
            """Have everybody hear of what the journal has."""

        def prepare(self, request: StartRequest) -> Message | None:
            """Take ports and GPUs for a stage; return an error when they are not free."""

        def begin(self, request: StartRequest) -> None:
            """Start the processes of a stage, for which everything is prepared."""

        def stop(self, why: str) -> None:
            """Stop the run on behalf of its host."""

        def join(self, request: MemberRequest) -> bool:
            """Use GPUs in the name of a project; return whether the run does now."""

        def leave_project(self) -> None:
            """Use GPUs in the name of no project."""


class Queueing:
    """The place of a run in the queue, as long as it has one."""

    def __init__(self, owner: Owner) -> None:
        self.alone: Waiting | None = None
        self.together: Gathered | None = None
        self.hands = Hands(owner)
        self._owner = owner

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The sockets to read from."""
        found = self.alone.readable if self.alone else []
        return [*found, *(self.together.readable if self.together else [])]

    @property
    def writable(self) -> list[Socket]:
        """The sockets to write to once they take more."""
        return self.together.writable if self.together else []

    def next_look(self, now: float) -> float:
        """Return the moment by which to :meth:`look`, if nothing happens before."""
        alone = self.alone.next_look if self.alone else float("inf")
        return min(alone, self.together.next_look(now) if self.together else float("inf"))

    def heard(self, readable: list[Any], writable: list[Any]) -> None:
        """Handle sockets that are ready."""
        now = time.monotonic()
        if self.alone:
            self.alone.heard(readable, now)
        if self.together:
            self.together.heard([*readable, *writable], now)

    def look(self, now: float) -> None:
        """Begin if it is this run's turn; leave the queue if it is to be stopped."""
        machine = self._owner.machine
        if self.together:
            self.together.look(now)
        if self.together and self.together.is_over(now) and not machine.stopped:
            self._owner.stop(protocol.WAIT_OVER)
        waiting = self.alone
        if waiting is None:
            return
        if machine.stopped:
            self.leave()
        elif waiting.is_over(now):
            self._owner.stop(protocol.WAIT_OVER)
        elif gpus := waiting.turn(now):
            self._take_turn(waiting, gpus, now)

    # -- requests

    def wait(self, request: Any) -> Message:
        """Wait for GPUs, or with another ticket; do nothing for a run that has begun."""
        owner = self._owner
        if self.alone:
            self.alone.move(request["ticket"], time.monotonic())
        elif "start" in request and not owner.machine.stopped:
            stage, attempt = request["start"]["stage"], request["start"]["attempt"]
            if not owner.machine.was_begun(stage, attempt):
                from .waiting import Waiting  # most runs do not wait

                self.alone = Waiting(owner.run_id, request, time.monotonic())
                owner.machine.wait()
                owner.record("WaitsOnHost")
        return {"ok": {}}

    def gather(self, request: Any) -> Message:
        """Wait for GPUs together with other hosts, or with another ticket.

        A run that has begun says so. Of two requests with other keys the last one counts: what was
        claimed for the one before is void.
        """
        owner, known, now = self._owner, self.together, time.monotonic()
        if known and known.has_begun:
            return {"ok": {"begun": 1}}
        starts = [*request.get("starts", {}).values(), *filter(None, [request.get("start")])]
        if known and (not starts or request["gang"]["key"] == known.key):
            known.move(request.get("ticket"), now)
        elif starts and not owner.machine.stopped:
            if owner.machine.was_begun(starts[0]["stage"], starts[0]["attempt"]):
                return {"ok": {"begun": 1}}
            from .gathered import Gathered  # most runs do not wait

            self.leave()
            owner.claims.unlock()
            try:
                self.together = Gathered(owner.run_id, owner.host, request, self.hands, now)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    return port_taken(request["gang"]["port"])
                raise
            owner.machine.wait()
        return {"ok": {}}

    def move(self, request: Any) -> Message:
        """Wait with another ticket."""
        return (self.gather if self.together else self.wait)(request)

    def gang(self, _: Message) -> Message:
        """Return how the hosts that wait together find each other, and which are out of touch."""
        together = self.together
        if not together or together.has_begun or self._owner.machine.stopped:
            return {"ok": {"missing": []}}
        return {"ok": {"gang": together.request["gang"], "missing": together.missing}}

    # -- its end

    def stopping(self, why: str) -> None:
        """Tell the hosts that wait together that the run is stopped."""
        if self.together:
            self.together.over(why, time.monotonic())

    def leave(self) -> None:
        """Leave the queue."""
        for place in (self.alone, self.together):
            if place:
                place.close()
        self.alone = self.together = None

    def end(self) -> None:
        """Leave the queue, unless other hosts still need to hear of the end: then that is closed last of
        all."""
        if not (self.together and self.together.is_needed):
            self.leave()

    # -- its turn

    def _take_turn(self, waiting: Waiting, gpus: list[int], now: float) -> None:
        """Begin on these GPUs, unless somebody was quicker with one of them or with a port.

        With a full disk, it takes no locks that would wake others as they go again.
        """
        has_room = self._owner.journal.has_room()
        request = self._ready(waiting, gpus, now) if has_room else None
        if request is None:
            waiting.later(now, has_room)
            return
        self._owner.begin(request)
        waiting.close()
        self.alone = None

    def _ready(self, waiting: Waiting, gpus: list[int], now: float) -> StartRequest | None:
        """Return what to begin on these GPUs, once they are locked and it is written down."""
        owner = self._owner
        try:
            request = waiting.start(gpus)
            refusal = owner.prepare(request)
        except OSError:
            refusal = {"error": {}}
        if not refusal:
            ports = [request["port"], *request["ports"]]
            if _is_written(owner, seconds=waiting.waited(now), gpus=gpus, ports=ports):
                return request
        owner.claims.unlock()
        return None


def _is_written(owner: Owner, **fields: Any) -> bool:
    """Write down that the run begins here, so that not even a power cut lets anybody start it again;
    return False if the disk does not keep that."""
    record = owner.journal.append_lasting("BegunThere", attempt=owner.machine.attempt, **fields)
    if record is None:
        return False
    owner.tell(record)
    return True


class Hands:
    """What a run that waits with other hosts has done here: see gathered.py."""

    def __init__(self, owner: Owner) -> None:
        self.chosen: list[str] = []  # the hosts on which those that waited together have begun
        self._owner = owner

    def lock(self, gpus: list[int]) -> bool:
        """Lock these GPUs; return False when one is not free."""
        try:
            return self._owner.claims.lock(gpus) is None
        except OSError:
            return False

    def has_room(self) -> bool:
        """Return whether it could be written down that the run begins."""
        return self._owner.journal.has_room()

    def unlock(self) -> None:
        """Unlock all GPUs."""
        self._owner.claims.unlock()

    def met(self, request: GatherRequest) -> None:
        """Write down that the hosts start the run by themselves from now on."""
        ways = request.get("ways")
        every = [way["tokens"] for way in ways] if ways else [request["tokens"]]
        of_run = {host for tokens in every for host in tokens}
        hosts = [host for host in request["gang"]["hosts"] if host in of_run]
        if len(hosts) == 1:
            self._owner.record("WaitsOnHost")
            return
        wanted = len(ways[0]["tokens"]) if ways else 0
        self._owner.record("WaitsOnHosts", hosts=hosts, wanted=wanted)

    def join(self, request: MemberRequest) -> bool:
        """Use GPUs in the name of a project; return False if that cannot be shown."""
        try:
            return self._owner.join(request)
        except OSError:
            return False

    def leave_project(self) -> None:
        """Use none any more."""
        self._owner.leave_project()

    def commit(self, request: StartRequest | None, given: Given, way: Way, seconds: float) -> bool:
        """Prepare the start, if there is one here, and write down that the run has begun this way;
        return False if it cannot."""
        try:
            if request and self._owner.prepare(request):
                return False
        except OSError:
            return False
        hosts = list(way["tokens"])
        begun = _is_written(
            self._owner,
            seconds=seconds,
            gpus=given["gpus"],
            ports=given["ports"],
            hosts=hosts,
            master_addr=way["address"],
            interfaces=way["interfaces"],
            addresses=way["addresses"],
        )
        self.chosen = hosts if begun else []
        return begun

    def begin(self, request: StartRequest) -> None:
        """Start the processes."""
        self._owner.begin(request)

    def end(self, why: str) -> None:
        """End the run here."""
        self._owner.stop(why)
