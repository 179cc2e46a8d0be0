"""The wait of a run for GPUs in the queue of its host, with nobody in touch, until it begins by itself.

It waits alone (waiting.py) or together with other hosts (gathered.py), and begins at most once.
"""

from __future__ import annotations

import errno
import time

from ..base import protocol
from . import machine
from .claims import port_taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..base.journal import Journal
    from ..base.lean import Socket
    from ..base.messages import (
        GangSpec,
        GatherRequest,
        Given,
        MemberRequest,
        Message,
        StartRequest,
        Way,
    )
    from .claims import Claims
    from .gang.gathered import Gathered
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


#: Seconds until a run that has given GPUs back tries to wait again, where it could not.
AGAIN = 5.0


class Queueing:
    """The place of a run in the queue, as long as it has one."""

    def __init__(self, owner: Owner) -> None:
        self.alone: Waiting | None = None
        self.together: Gathered | None = None
        self.hands = Hands(owner, self)
        self.later: GatherRequest | None = None  # by which it waits again, once it gave GPUs back
        self.returns = False  # it does so now that the attempt is over
        self.witnesses: GangSpec | None = None  # it decides with others, once the run is over here
        self.listener: Socket | None = None  # where the others find this host, once it waits again
        self._owner = owner
        self._stops: list[str] = []  # why it was asked to stop
        self._waits_at: float | None = None  # when it is to try to wait again

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
        moments = [float("inf")] if self._waits_at is None else [self._waits_at]
        moments += [self.alone.next_look] if self.alone else []
        moments += [self.together.next_look(now)] if self.together else []
        return min(moments)

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
        if self._waits_at is not None and now >= self._waits_at and not machine.stopped:
            self._try_to_wait(now)
        if self.together:
            self.together.look(now)
        if self.together and self.together.is_to_move and self.later:
            self._follow_leader(self.later)
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
        claimed for the one before is void. A host that has agreed to a start which may have happened
        elsewhere waits no more, and says which hosts would have started: see succession.py.
        """
        owner, known, now = self._owner, self.together, time.monotonic()
        if known and known.has_begun:
            return {"ok": {"begun": 1}}
        from .gang.returning import of_attempt  # most runs do not wait

        self._waits_at = None
        asked: GatherRequest = request
        request = of_attempt(asked, owner.machine.attempt)
        starts = [*request.get("starts", {}).values(), *filter(None, [request.get("start")])]
        if known and (not starts or request["gang"]["key"] == known.key):
            known.move(request.get("ticket"), now)
        elif starts and not owner.machine.stopped:
            if owner.machine.was_begun(starts[0]["stage"], starts[0]["attempt"]):
                return {"ok": {"begun": 1}}
            from .gang.gathered import Gathered  # most runs do not wait

            told = request, self.hands, now, False, self._listening(request["gang"]["port"])
            self.leave()
            owner.claims.unlock()
            if (unsure := _unsure_of(request)) is not None:
                return {"ok": {"unsure": unsure["hosts"], "key": unsure["key"]}}
            try:
                self.together = Gathered(owner.run_id, owner.host, *told)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    return port_taken(request["gang"]["port"])
                raise
            self.later = asked
            owner.machine.wait()
        return {"ok": {}}

    def _listening(self, port: int) -> Socket | None:
        """Return what listens at a port since the attempt before, if anything does."""
        if self.listener is None or self.listener.getsockname()[1] != port:
            return None
        listener, self.listener = self.listener, None
        return listener

    def keep_for_later(self, request: Any) -> Message:
        """Keep what is needed to wait again once GPUs are given back, if the run has some."""
        from .gang.gathered import Gathered  # few runs give GPUs back
        from .gang.returning import kept_for_later, of_attempt

        owner = self._owner
        is_running = owner.machine.phase == machine.RUNNING and owner.machine.stage == "run"
        if not is_running or owner.machine.is_ending or not kept_for_later(request):
            return {"ok": {"kept": 0}}
        if self.together:
            self.together.close()
            self.together = None
        made = of_attempt(request, owner.machine.attempt)
        now = time.monotonic()
        try:
            self.together = Gathered(owner.run_id, owner.host, made, self.hands, now, True)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                return port_taken(request["gang"]["port"])
            raise
        self.later = kept_for_later(request)
        return {"ok": {"kept": 1}}

    def move(self, request: Any) -> Message:
        """Wait with another ticket."""
        return (self.gather if self.together else self.wait)(request)

    def gang(self, _: Message) -> Message:
        """Return how the hosts that wait together find each other, and which are out of touch.

        ``returns``: a request to wait may have a token in the place of its attempt's number.
        ``succeeds``: it may name voters. ``leads``: the host that leads, as far as this one knows.
        """
        together = self.together
        able: Message = {"returns": 1, "succeeds": 1}
        if not together or self._owner.machine.stopped or self._is_through(together):
            return {"ok": dict(able, missing=[])}
        gang, missing = together.spec, together.missing
        return {"ok": dict(able, gang=gang, missing=missing, leads=together.leads)}

    def _is_through(self, together: Gathered) -> bool:
        return together.has_begun and self.later is None

    # -- its end

    def stopping(self, why: str) -> None:
        """Tell the hosts that wait together that the run is stopped, unless it only gives way."""
        self._stops.append(why)
        if self.together and self.together.decides and self.together.is_needed:
            self.later = (
                None  # a host that has not begun yet would begin this attempt, and not the next
            )
        if self.together and not self._gives_way:
            self.together.over(why, time.monotonic())

    @property
    def _gives_way(self) -> bool:
        """Whether the run is only asked to give its GPUs back, and can wait for others by itself."""
        is_asked = {*self._stops} == {protocol.PREEMPTED} and not self._owner.machine.has_failed
        return is_asked and self.later is not None

    def leave(self) -> None:
        """Leave the queue."""
        for place in (self.alone, self.together):
            if place:
                place.close()
        if self.listener:
            self.listener.close()
        self.alone = self.together = self.listener = None

    def end(self, left: list[int], was_terminated: bool) -> bool:
        """Leave the queue, unless other hosts still need to hear of the end: then that is closed last of
        all. Return whether they do. Decide whether the run waits again: not with processes ``left``."""
        self.returns = self._gives_way and not left and not was_terminated
        is_waited_for = self.together is not None and self.together.is_needed
        if self.returns:
            listener = self.together.hand_over() if self.together else None
            self.leave()
            self.listener = listener
            return is_waited_for
        if self.together:
            self.together.dismiss(time.monotonic())
        if not (self.together and self.together.is_needed):
            self.leave()
        return is_waited_for

    # -- once it has given its GPUs back

    def wait_again(self, before: Queueing) -> None:
        """Wait with the attempt that follows the one ``before``."""
        from .gang.returning import hosts_of

        owner = self._owner
        owner.machine.wait()
        self.later, self.listener = before.later, before.listener
        assert self.later
        owner.record("WaitsAgain", hosts=hosts_of(self.later))
        self._waits_at = time.monotonic()

    def _follow_leader(self, later: GatherRequest) -> None:
        """Be in touch by the request that says who leads from now on."""
        try:
            self.keep_for_later(later)
        except OSError:
            pass  # too many sockets: the hosts find each other once they wait again

    def _try_to_wait(self, now: float) -> None:
        """Wait again; later, if somebody else listens at the port of the run."""
        assert self.later
        try:
            self.gather(self.later)
        except OSError:
            pass  # a full disk, or too many sockets
        if not self.together:
            self._waits_at = now + AGAIN

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


def _unsure_of(request: GatherRequest) -> Message | None:
    """Return the start of the run that this host has agreed to, and which may have happened; what is
    known not to have happened is forgotten."""
    from .gang import agreement

    agreed = agreement.kept()
    if agreed is not None and agreed["key"] in (request.get("void") or ()):
        agreement.forget()
        return None
    return agreed


class Hands:
    """What a run that waits with other hosts has done here: see gathered.py."""

    def __init__(self, owner: Owner, queue: Queueing) -> None:
        self.chosen: list[str] = []  # the hosts on which those that waited together have begun
        self._owner, self._queue = owner, queue

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

    def met(self, request: GatherRequest, leads: str) -> None:
        """Write down that the hosts start the run by themselves from now on."""
        from .gang import ways

        every, may_choose = ways.ways_of(request)[0], request.get("ways") or request.get("any_of")
        of_run = ways.hosts_of(every)
        hosts = [host for host in request["gang"]["hosts"] if host in of_run]
        hosts.sort(key=lambda host: host != leads)
        if len(hosts) == 1:
            self._owner.record("WaitsOnHost")
            return
        sizes = ways.sizes_of(every) if may_choose else [0]
        more: dict[str, Any] = {"most": sizes[-1]} if len(sizes) > 1 else {}
        if request["gang"].get("voters"):
            more["succeeds"] = True
        self._owner.record("WaitsOnHosts", hosts=hosts, wanted=sizes[0], **more)

    def join(self, request: MemberRequest) -> bool:
        """Use GPUs in the name of a project; return False if that cannot be shown."""
        try:
            return self._owner.join(request)
        except OSError:
            return False

    def leave_project(self) -> None:
        """Use none any more."""
        self._owner.leave_project()

    def commit(
        self,
        request: StartRequest | None,
        given: Given,
        way: Way,
        seconds: float,
        later: Message | None = None,
    ) -> bool:
        """Prepare the start, if there is one here, and write down that the run has begun this way;
        return False if it cannot. ``later`` says how the hosts find each other after it."""
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
        if begun and self._queue.later:
            from .gang.returning import kept_for_later

            self._queue.later = kept_for_later(self._queue.later, hosts, later)
        return begun

    def witness(self, later: Message | None) -> None:
        """Go on as one of those that only decide, once the run is over here."""
        if together := self._queue.together:
            gang: Any = dict(together.request["gang"], **(later or {}))
            self._queue.witnesses = gang

    def begin(self, request: StartRequest) -> None:
        """Start the processes."""
        if request["attempt"]:
            from .gang.returning import stop_storing

            stop_storing()
        self._owner.begin(request)

    def give_way(self) -> None:
        """Give the run's GPUs back, as others do who could not tell."""
        here = self._owner.machine
        if here.phase == machine.RUNNING and not here.is_ending:
            self._owner.stop(protocol.PREEMPTED)

    def end(self, why: str) -> None:
        """End the run here."""
        self._owner.stop(why)
