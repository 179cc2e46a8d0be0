"""Owns the processes of one run on one host, from their start until the last one is gone.

There is one supervisor for each run and host. It has a session of its own, so it survives the SSH
connection. machine.py decides what is done when; this module does it.
"""

from __future__ import annotations

import binascii
import errno
import os
import select
import time

from ..base import protocol
from ..base.journal import Journal, forget, write_private
from ..base.lean import prctl
from ..host import gpu_locks, socket_names
from ..host.gpus import GpuWatch
from ..host.probe import port_is_free
from ..processes import login_session, processes
from . import machine, requests
from .broadcast import Broadcast
from .children import Children
from .clients import Clients
from .environment import early_environment
from .feed import Feed
from .machine import Machine
from .meeting import Meeting
from .metrics import Metrics
from .sharer import Sharer
from .stacks import StackTaker
from .stall import StallWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..base.lean import Socket
    from ..base.messages import (
        GangSpec,
        GatherRequest,
        Given,
        MemberRequest,
        Message,
        PreloadRequest,
        ProcessSpec,
        StartRequest,
        SupervisorSpec,
        Way,
    )
    from ..processes.own_hosts import OwnHosts
    from .children import Helper
    from .gathered import Gathered
    from .keeper import Keeper
    from .member import Member
    from .waiting import Waiting
    from .warm import Warm

#: Why a run is stopped when the request does not say.
BY_USER = "by-user"
#: Requests that only a launcher makes: it is in touch.
_OF_LAUNCHERS = (
    "start",
    "stop",
    "subscribe",
    "contact",
    "claim",
    "wait",
    "gather",
    "gang",
    "return",
    "move",
    "member",
    "preload",
    "stdin",
    "unattended",
)
#: Why the processes of an attempt are stopped that another one may follow.
_MAY_GO_ON = (protocol.PROCESS_FAILED, protocol.PREEMPTED)
#: Most seconds between two looks at anything; and seconds until a run that has given GPUs back tries to
#: wait again, where it could not.
LONGEST, AGAIN = 5.0, 5.0


class Supervisor:
    """The loop of one host: listens to clients, other hosts and children, and obeys the machine."""

    def __init__(
        self,
        spec: SupervisorSpec,
        own_hosts: OwnHosts | None = None,
        before: Supervisor | None = None,
        warm: Warm | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """``before`` is that of the last attempt, in this process: see staying.py. ``warm`` was kept for
        this run, and the ``keeper`` keeps what it imports for the next one: see keeper.py."""
        self.spec = spec
        self.run_id, self.host, self.grace = spec["run_id"], spec["host"], spec["grace"]
        self.journal = Journal("journal.jsonl")
        self.machine = Machine(
            self.grace, spec.get("orphan_timeout"), time.monotonic(), spec.get("attempt") or 0
        )
        self.own_hosts = own_hosts
        self.gpu_locks: list[gpu_locks.Lock] = []
        self.registered = gpu_locks.register(self.run_id)  # until the run is over here
        self.limit: list[gpu_locks.Lock] = []  # until when the run ends by itself
        self.waiting: Waiting | None = None  # for GPUs, to begin by itself
        self.gathered: Gathered | None = None  # the same, with other hosts
        self.chosen: list[str] = []  # the hosts on which those that waited together have begun
        self.member: Member | None = None  # of a project
        self.later: GatherRequest | None = None  # by which it waits again, once it gave GPUs back
        self.returns = False  # it does so now
        self.witnesses: GangSpec | None = None  # it decides with others, once the run is over here
        self._stops: list[str] = []  # why it was asked to stop
        self._waits_at: float | None = None  # when it is to try that
        self._ends_at: float | None = before._ends_at if before else None  # for its time is over
        self.stall = StallWatch(self._record, spec.get("stall"))
        self.stacks = StackTaker(self._record, bool(spec.get("inside")))
        self.gpus = GpuWatch(self._record)
        self.sharer = Sharer()
        self.feed = Feed()
        self.metrics = Metrics()
        self.meeting = Meeting()
        self.warm: Warm | None = before.warm if before else warm  # modules are imported ahead
        self._keeper: Keeper | None = before._keeper if before else keeper
        self._no_place: str = before._no_place if before else spec.get("no_place") or ""
        #: Seconds for which the next run may use that, and whether it may.
        self.keep = spec.get("keep") or 0.0
        self.keeps = False
        self._unlike = spec.get("unlike")  # why nothing that an earlier run has left could be used
        self.stays = False  # for the next attempt, once it is over
        self._may_stay = True
        #: URLs to store outputs by while no launcher is in touch, and when they came. They are secrets.
        self._urls: tuple[Message, float] | None = before._urls if before else None
        helpers: list[Helper] = [self.stacks, self.gpus, self.sharer, self.metrics]
        self.children: Children = Children(
            self.run_id, self.host, helpers, before.children if before else None
        )
        if self.warm:
            self.warm.serve(self._record)
            if self.warm not in self.children.helpers:
                self.children.helpers.append(self.warm)
        self.broadcast = Broadcast(self._heard)  # of a run whose hosts do not know each other yet
        prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        self.clients: Clients = before.clients if before else Clients()
        self.terminated = self._was_terminated = False
        self.signals = processes.watch_signals(self._note_termination)
        self._answers: dict[str, Callable[[Any], Message]] = {
            "start": self._start,
            "preload": self._preload,
            "claim": self._claim,
            "release": self._claim,
            "wait": self._wait,
            "gather": self._gather,
            "gang": self._tell_gang,
            "return": self._keep_for_later,
            "move": lambda request: (self._gather if self.gathered else self._wait)(request),
            "member": self._join,
            "stop": self._stop,
            "stdin": self._feed,
            "unattended": self._take_urls,
            "stacks": self._take_stacks,
        }
        self.journal.append("SupervisorStarted", pid=os.getpid(), host=self.host)

    # -- the loop

    def serve(self) -> None:
        """Return when the run is over on this host and no process of it is left.

        Clients stay connected: the caller releases the lock of the run before it closes them.
        """
        while self.machine.phase != machine.OVER:
            callers = self.clients.sockets
            found = select.select(*self._sockets(), [], self._patience())
            self._hear_of_queue(found[0], found[1])
            for ready in found[0]:
                self._look(ready, callers)
            for ready in found[1]:
                self._write(ready)
            self._reap()
            self._keep_time()
        if not self.stays and not self.keeps and not self.returns:
            self._cool()
        for claim in self.registered:
            claim.close()

    def _sockets(self) -> tuple[list[Any], list[Any]]:
        """Return what to read from, and what to write to once it takes more."""
        readable: list[Any] = [self.signals, *self.clients.sockets, *self.broadcast.readable]
        writable: list[Any] = [*self.clients.writable, *self.broadcast.writable]
        readable += self.waiting.readable if self.waiting else []
        readable += self.gathered.readable if self.gathered else []
        writable += self.gathered.writable if self.gathered else []
        readable += self.warm.readable if self.warm else []
        writable += self.feed.writable
        return readable, writable

    def _hear_of_queue(self, readable: list[Any], writable: list[Any]) -> None:
        now = time.monotonic()
        if self.waiting:
            self.waiting.heard(readable, now)
        if self.gathered:
            self.gathered.heard([*readable, *writable], now)

    def _look(self, ready: Any, callers: list[Socket]) -> None:
        """Read from what is ready."""
        if ready == self.signals:
            os.read(self.signals, 512)
        elif ready in callers:
            self._hear(ready)
        elif ready in self.broadcast.readable:
            self.broadcast.look(ready)
        elif self.warm and ready in self.warm.readable:
            self.warm.heard()

    def _write(self, ready: Any) -> None:
        if ready in self.clients.writable:
            self.clients.flush(ready)
        elif ready in self.feed.writable:
            self.feed.write()
        elif ready in self.broadcast.writable:
            self.broadcast.look(ready)

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [now + LONGEST, self.machine.next_tick(now, self.clients.alone_since)]
        moments += [self.stall.next_look, self.broadcast.next_look, self.gpus.next_look]
        moments += [self.metrics.next_look, self.feed.next_look, self.children.next_look]
        moments.append(self.meeting.next_look)
        moments += [self.warm.next_look] if self.warm else []
        moments += [self.waiting.next_look] if self.waiting else []
        moments += [self.gathered.next_look(now)] if self.gathered else []
        moments += [self.member.next_look] if self.member else []
        moments += [self._waits_at] if self._waits_at is not None else []
        return max(0.0, min([*moments, self.children.owned.next_look]) - now)

    def _keep_time(self) -> None:
        if self.terminated:
            self.terminated, self._was_terminated = False, True
            if self.machine.waits and not self.machine.stopped:
                self.machine.leave()
            else:
                why = login_session.why_terminated()
                self._follow(self.machine.stop(self.grace, why, False, time.monotonic()))
        now = time.monotonic()
        self._follow(self.machine.tick(now, self.clients.alone_since))
        if self.machine.phase != machine.OVER:
            self.gpus.look(now)
            self.stall.look(now, self.machine.is_ending)
            self.metrics.look(now)
            self.feed.look(now)
            self.meeting.look(now)
            if self.warm:
                self.warm.look(now)
            self.children.owned.look(now)
            self.broadcast.keep_time(now)
            self._look_at_queue(now)
            self.children.look(now)
            self._look_at_project(now)
        socket_names.drain([*self.registered, *self.gpu_locks, *self.limit])
        if self.member:
            socket_names.drain(self.member.sockets)
        self.journal.flush()

    # -- what happens

    def _note_termination(self) -> None:
        """Note SIGTERM; called by its handler at any moment."""
        self.terminated = True

    def _reap(self) -> None:
        for child, code in self.children.exits():
            if self.terminated:
                self.machine.terminated()
            evidence = self.children.evidence(child, code)
            exited = machine.Exited(child.key, child.rank, code, time.time(), evidence)
            if child.reads:
                self.feed.close()
            self._follow(self.machine.exited(exited, time.monotonic()))

    def _heard(self, word: Message) -> None:
        self._follow(self.machine.heard(word, time.monotonic()))

    def _hear(self, ready: Socket) -> None:
        for client, message in self.clients.hear(ready):
            answer = self._answer(client, message)
            if answer is not None:
                self.clients.send(client, answer)
            if "bad" in message:
                self.clients.hang_up(client)

    def _answer(self, client: Socket, message: Message) -> Message | None:
        """Answer any message; neither it nor an error in handling it ends the run."""
        try:
            return self._do(client, requests.checked(message), message)
        except requests.Refused as refusal:
            return protocol.error(refusal.code, str(refusal))
        except OSError as error:
            return protocol.error("os", str(error))
        except Exception as error:
            import traceback

            traceback.print_exc()  # into supervisor.log
            return protocol.error("internal-error", "%s: %s" % (type(error).__name__, error))

    # -- requests

    def _do(self, client: Socket, operation: str, message: Any) -> Message | None:
        if operation in _OF_LAUNCHERS:
            self.machine.heard_launcher(time.monotonic())
        if operation == "subscribe":
            self.clients.subscribe(client)
            return {"ok": {"version": protocol.VERSION}}
        if operation in self._answers:
            return self._answers[operation](message)
        if operation == "next":
            return {"ok": {"stayed": 0}}  # it is the next attempt's already
        if operation == "stay":
            self.clients.hang_up(client)  # nobody has to wait for this one
            return None
        self._report(client, operation, message)
        return None

    def _report(self, client: Socket, operation: str, message: Message) -> None:
        """Record what a program of ours reports, which expects no answer."""
        if operation == "rank-started":
            key, rank, pid = message["key"], message["rank"], message["pid"]
            if self.children.containers:
                pid = self.children.containers.pid_here(self.clients.pid(client), pid)
            self._record("ProcessStarted", key=key, rank=rank, pid=pid)
            if rank == 0:
                self.feed.begin()
        elif operation == "rank-exited":
            self._rank_exited(message)
        elif operation == "share-trouble":
            names = ("code", "path", "other", "detail")
            self._record("ShareTroubled", **{name: message[name] for name in names})

    def _stop(self, request: Any) -> Message:
        grace = self.grace if request.get("grace") is None else request["grace"]
        why = request.get("why") or BY_USER
        self._follow(self.machine.stop(grace, why, True, time.monotonic()))
        return {"ok": {}}

    def _feed(self, message: Any) -> Message:
        """Take bytes of the user's stdin. Until the processes start there is nobody to give them to."""
        try:
            data = binascii.a2b_base64(message["data"])
        except ValueError as error:
            raise requests.Refused(protocol.BAD_REQUEST, "data: %s" % error)
        return {"ok": self.feed.take(message["offset"], data, bool(message.get("end")))}

    def _take_urls(self, message: Message) -> Message:
        if self._urls is None:
            self._record("UrlsLeft", seconds=message["seconds"], urls=len(message["urls"]))
        self._urls = (message, time.monotonic())
        return {"ok": {}}

    def left_to_store(self) -> tuple[Message, float, float, bool] | None:
        """Return what outputs can be stored by once the run is over here: URLs, their age, for how long
        no launcher was heard, and whether none is connected; None without any."""
        if self._urls is None or not self._urls[0]["urls"] or self.machine.waits:
            return None
        message, since = self._urls
        if self.chosen:  # those that the message names are all that it could have begun on
            message = dict(message, hosts=self.chosen)
        now = time.monotonic()
        alone = self.clients.alone_since is not None
        return message, now - since, now - self.machine.heard_at, alone

    def _take_stacks(self, message: Any) -> Message:
        if not self.machine.has_begun:
            raise requests.Refused(protocol.BAD_REQUEST, "nothing was started yet")
        self.stacks.take(self.stall.watched, message["stamp"], self.host, self.children.path)
        return {"ok": {}}

    def _rank_exited(self, message: Message) -> None:
        key, code = message["key"], message["code"]
        if message["rank"] == 0:
            self.feed.close()
        evidence = self.children.lack_of_memory(key, code)
        if message.get("error"):
            evidence["error"] = message["error"]
        at = message.get("at") or time.time()
        exited = machine.Exited(key, message["rank"], code, at, evidence)
        self._follow(self.machine.rank_exited(exited, time.monotonic()))

    def _start(self, request: StartRequest) -> Message:
        """Start the processes of a stage, "setup" or "run"; do nothing if that was done before."""
        if self.machine.was_begun(request["stage"], request["attempt"]):
            return {"ok": {}}
        refusal = self._prepare(request)
        if refusal:
            return refusal
        self._begin(request)
        return {"ok": {}}

    def _begin(self, request: StartRequest) -> None:
        """Start the processes of a stage, for which everything is prepared."""
        stage, attempt, specs = request["stage"], request["attempt"], request["processes"]
        seconds, now = request.get("seconds"), time.monotonic()
        if seconds is not None and self._ends_at is not None:
            seconds = max(1.0, min(seconds, self._ends_at - now))
        until = self._ends_at = None if seconds is None else now + seconds
        self.machine.begin(stage, attempt, specs, request.get("elastic"), until)
        if seconds is not None:
            self.limit = gpu_locks.limit(self.run_id, seconds)
        self.children.prepare(request)
        self.stall.inside = self.children.containers.inner if self.children.containers else None
        indices = request.get("gpus") or []
        vendor = request.get("gpu_vendor") or ""
        self.metrics.begin(indices, vendor)
        if indices:
            self.stall.gpus, self.stall.vendor = indices, vendor
            self.gpus.begin(request.get("gpu_uuids") or {}, vendor)
        if request.get("peer"):  # it holds a private key: its reader removes it at once
            ends = {} if seconds is None else {"ends": time.time() + seconds}
            write_private("peer.json", {**request["peer"], **ends})
        self.meeting.begin(request.get("port"), request.get("meets_by"))
        if request.get("share"):
            self.sharer.start(request["share"])
        if self.own_hosts and request.get("own_hosts"):
            self.own_hosts.name(request["own_hosts"], self.host)
        if request.get("stdin") is not None:
            self.feed.open(request["stdin"] or 0.0)
        for process in specs:
            self._start_one(process)
        if stage == "run":
            self._run_begun(request)

    def _run_begun(self, request: StartRequest) -> None:
        self._may_stay = bool(request.get("stay"))
        if not self._may_stay and not self.keep:
            self._cool()
        if self.member:
            self.member.begin(time.monotonic())

    def _prepare(self, request: StartRequest) -> Message | None:
        """Take ports and GPUs for a stage; return an error when they are not free."""
        if self.machine.stopped:
            return protocol.error(
                "stopped", "the run was stopped before its processes were started"
            )
        for port in filter(None, [request.get("port"), *(request.get("ports") or [])]):
            if not port_is_free(port):
                return _port_taken(port)
        self.broadcast.close()
        news = request.get("news")
        try:
            self.broadcast = Broadcast(self._heard, self.host, news)
        except OSError:
            return _port_taken(news["port"] if news else 0)
        share = request.get("share")
        try:
            self.sharer.listen(self.host, share)
        except OSError:
            return _port_taken(share["port"] if share else 0)
        return self._lock(request.get("gpus") or [])

    def _preload(self, request: PreloadRequest) -> Message:
        """Import modules for the ranks of the next stage, unless those of an attempt before can be used;
        do nothing if that was done before."""
        if self.machine.stopped or (self.warm and self.warm.was_asked):
            return {"ok": {}}
        if not self.warm:
            from .warm import Warm  # most runs preload nothing

            self.warm = Warm(self._record, self._keeper.place if self._keeper else "")
            self.children.helpers.append(self.warm)
        if self._unlike:
            self._record("ImportedAnew", why=self._unlike[0], detail=self._unlike[1][:500])
        process = request["process"]
        env = early_environment(request)
        self.stacks.prepare(env)
        self.warm.begin(
            request["modules"],
            process["argv"],
            env,
            process["cwd"],
            self.stacks.wanted,
            request.get("secrets") or {},
        )
        return {"ok": {}}

    def _cool(self) -> None:
        """End what has imported modules ahead, if anything."""
        if self.warm:
            self.warm.close()

    def _claim(self, request: Any) -> Message:
        """Lock these GPUs for the next stage, and no others; do nothing while one runs."""
        if self.machine.phase == machine.IDLE:
            self._unlock()
            return self._lock(request.get("gpus") or []) or {"ok": {}}
        return {"ok": {}}

    def _lock(self, wanted: list[int]) -> Message | None:
        """Lock GPUs, unless that was done before; return an error when one is not free."""
        try:
            self.gpu_locks = self.gpu_locks or gpu_locks.take(wanted, self.run_id)
        except gpu_locks.Busy as busy:
            return dict(protocol.error("gpu-busy", str(busy)), gpu=busy.index, holder=busy.holder)
        return None

    def _unlock(self) -> None:
        for lock in [*self.gpu_locks, *self.limit]:
            lock.close()
        self.gpu_locks, self.limit = [], []

    # -- its project

    def _join(self, request: Any) -> Message:
        """Use GPUs in the name of a project, or of none; do nothing while a stage runs."""
        if self.machine.phase == machine.IDLE and not self.machine.stopped:
            before, after = self.member, None
            if request["project"]:
                from .member import Member  # few runs have a project

                after = Member(self.run_id, request, time.time())
            self.member = after
            if before:
                before.close()
        return {"ok": {}}

    def _look_at_project(self, now: float) -> None:
        """Give the GPUs back if a run that may take them asks for that."""
        if self.member is None or self.machine.is_ending:
            return
        taker = self.member.look(now)
        if taker is not None:
            run, user, project = taker["run"], taker["user"], taker["project"]
            self._record("TakenBack", run=run, user=user, project=project)
            self._follow(self.machine.stop(self.grace, protocol.PREEMPTED, False, now))

    # -- the queue

    def _wait(self, request: Any) -> Message:
        """Wait for GPUs, or with another ticket; do nothing for a run that has begun."""
        if self.waiting:
            self.waiting.move(request["ticket"], time.monotonic())
        elif "start" in request and not self.machine.stopped:
            stage, attempt = request["start"]["stage"], request["start"]["attempt"]
            if not self.machine.was_begun(stage, attempt):
                from .waiting import Waiting  # most runs do not wait

                self.waiting = Waiting(self.run_id, request, time.monotonic())
                self.machine.wait()
                self._record("WaitsOnHost")
        return {"ok": {}}

    def _gather(self, request: Any) -> Message:
        """Wait for GPUs together with other hosts, or with another ticket.

        A run that has begun says so. Of two requests with other keys the last one counts: what was
        claimed for the one before is void.
        """
        known, now = self.gathered, time.monotonic()
        if known and known.has_begun:
            return {"ok": {"begun": 1}}
        from .returning import of_attempt  # most runs do not wait

        self._waits_at = None
        raw: GatherRequest = request
        request = of_attempt(raw, self.machine.attempt)
        starts = [*request.get("starts", {}).values(), *filter(None, [request.get("start")])]
        if known and (not starts or request["gang"]["key"] == known.key):
            known.move(request.get("ticket"), now)
        elif starts and not self.machine.stopped:
            if self.machine.was_begun(starts[0]["stage"], starts[0]["attempt"]):
                return {"ok": {"begun": 1}}
            from .gathered import Gathered  # most runs do not wait

            self._leave_queue()
            self._unlock()
            try:
                self.gathered = Gathered(self.run_id, self.host, request, Hands(self), now)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    return _port_taken(request["gang"]["port"])
                raise
            self.later = raw
            self.machine.wait()
        return {"ok": {}}

    def _keep_for_later(self, request: GatherRequest) -> Message:
        """Keep what is needed to wait again once GPUs are given back, if the run has some."""
        from .gathered import Gathered  # few runs give GPUs back
        from .returning import kept_for_later, of_attempt

        is_running = self.machine.phase == machine.RUNNING and self.machine.stage == "run"
        if not is_running or self.machine.is_ending or not kept_for_later(request):
            return {"ok": {"kept": 0}}
        if self.gathered:
            self.gathered.close()
            self.gathered = None
        made = of_attempt(request, self.machine.attempt)
        try:
            hands = Hands(self)
            self.gathered = Gathered(self.run_id, self.host, made, hands, time.monotonic(), True)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                return _port_taken(request["gang"]["port"])
            raise
        self.later = kept_for_later(request)
        return {"ok": {"kept": 1}}

    def wait_again(self, before: Supervisor) -> None:
        """Wait with the attempt that follows the one ``before``, which has given its GPUs back."""
        from .returning import hosts_of

        self.machine.heard_launcher(before.machine.heard_at)
        self.machine.wait()
        self.later = before.later
        assert self.later
        self._record("WaitsAgain", hosts=hosts_of(self.later))
        self._waits_at = time.monotonic()

    def _try_to_wait(self, now: float) -> None:
        """Wait again; later, if somebody else listens at the port of the run."""
        assert self.later
        try:
            self._gather(self.later)
        except OSError:
            pass  # a full disk, or too many sockets
        if not self.gathered:
            self._waits_at = now + AGAIN

    def _tell_gang(self, _: Message) -> Message:
        """Return how the hosts that wait together find each other, and which are out of touch."""
        if not self.gathered or self.machine.stopped:
            return {"ok": {"missing": []}}
        if self.gathered.has_begun and self.later is None:
            return {"ok": {"missing": []}}
        return {"ok": {"gang": self.gathered.request["gang"], "missing": self.gathered.missing}}

    def _look_at_queue(self, now: float) -> None:
        """Begin if it is this run's turn; leave the queue if it is to be stopped."""
        if self._waits_at is not None and now >= self._waits_at and not self.machine.stopped:
            self._try_to_wait(now)
        if self.gathered:
            self.gathered.look(now)
        if self.gathered and self.gathered.is_to_move and self.later:
            self._keep_for_later(self.later)
        if self.gathered and self.gathered.is_over(now) and not self.machine.stopped:
            self._follow(self.machine.stop(self.grace, protocol.WAIT_OVER, False, now))
        waiting = self.waiting
        if waiting is None:
            return
        if self.machine.stopped:
            self._leave_queue()
        elif waiting.is_over(now):
            self._follow(self.machine.stop(self.grace, protocol.WAIT_OVER, False, now))
        elif gpus := waiting.turn(now):
            self._take_turn(waiting, gpus, now)

    def _take_turn(self, waiting: Waiting, gpus: list[int], now: float) -> None:
        """Begin on these GPUs, unless somebody was quicker with one of them or with a port.

        With a full disk, it takes no locks that would wake others as they go again.
        """
        has_room = self.journal.has_room()
        request = self._ready(waiting, gpus, now) if has_room else None
        if request is None:
            waiting.later(now, has_room)
            return
        self._begin(request)
        waiting.close()
        self.waiting = None

    def _ready(self, waiting: Waiting, gpus: list[int], now: float) -> StartRequest | None:
        """Return what to begin on these GPUs, once they are locked and it is written down."""
        try:
            request = waiting.start(gpus)
            refusal = self._prepare(request)
        except OSError:
            refusal = {"error": {}}
        if not refusal:
            ports = [request["port"], *request["ports"]]
            if self._has_begun(seconds=waiting.waited(now), gpus=gpus, ports=ports):
                return request
        self._unlock()
        return None

    def _has_begun(self, **fields: Any) -> bool:
        """Write down that the run begins here, so that not even a power cut lets anybody start it again;
        return False if the disk does not keep that."""
        attempt = self.machine.attempt
        record = self.journal.append_lasting("BegunThere", attempt=attempt, **fields)
        if record is None:
            return False
        self._tell(record)
        return True

    def _leave_queue(self) -> None:
        for place in (self.waiting, self.gathered):
            if place:
                place.close()
        self.waiting = self.gathered = None

    def _start_one(self, process: ProcessSpec) -> None:
        key, rank = process["key"], process.get("rank")
        env = self.children.environment(process)
        warm = None
        if self.machine.stage == "run":
            self.stacks.prepare(env)
            warm = self.warm
        try:
            pid, limits = self.children.start(process, env, warm)
        except OSError as error:
            exited = machine.Exited(key, rank, protocol.not_started(error), time.time())
            self._follow(self.machine.could_not_start(exited, time.monotonic()))
        else:
            if process.get("stdin"):
                self.feed.begin()
            self._follow(self.machine.started(key, rank, pid, limits))

    # -- instructions

    def _follow(self, instructions: Iterable[machine.Instruction]) -> None:
        for each in instructions:
            if isinstance(each, machine.Record):
                self._record(each.event, **each.fields)
            elif isinstance(each, machine.Tell):
                self.broadcast.tell(**each.word)
            elif isinstance(each, machine.Stop):
                self._ask_all(each)
            elif isinstance(each, machine.StopOrphans):
                found = [processes.describe(pid) for pid in each.pids]
                self._record("OrphansFound", processes=found)
                self.children.ask(each.pids)
            elif isinstance(each, machine.Kill):
                self._kill()
            elif isinstance(each, machine.Look):
                left = self.children.left()
                now = time.monotonic()
                cleaning = bool(left) and self.children.only_ending(left, now)
                self._follow(self.machine.found(left, cleaning, now))
            elif isinstance(each, machine.Close):
                self._close()

    def _record(self, event: str, **fields: Any) -> None:
        self._tell(self.journal.append(event, attempt=self.machine.attempt, **fields))

    def _tell(self, record: Message) -> None:
        self.stall.heard(record["event"], record)
        self.meeting.heard(record["event"], record)
        self.clients.wake()

    def _ask_all(self, stop: machine.Stop) -> None:
        if stop.why == protocol.RESTARTING:
            self._may_stay = True
        elif stop.why not in _MAY_GO_ON:
            self._may_stay = False
        left = self.children.left()
        self._stops.append(stop.why)
        origin = {"origin": stop.origin} if stop.origin else {}
        self._record(
            "StopRequested",
            why=stop.why,
            grace=stop.grace,
            processes=len(left),
            asked=stop.asked,
            **origin,
        )
        if self.gathered and not self._gives_way:
            self.gathered.over(stop.why, time.monotonic())
        self.children.ask(left)

    def _kill(self) -> None:
        left = self.children.left()
        if left:
            self._record("ProcessesKilled", processes=len(left))
        self.children.kill(left)

    @property
    def _gives_way(self) -> bool:
        """Whether the run is only asked to give its GPUs back, and can wait for others by itself."""
        is_asked = {*self._stops} == {protocol.PREEMPTED} and not self.machine.has_failed
        return is_asked and self.later is not None

    def _close(self) -> None:
        left = self.children.left()
        self.returns = self._gives_way and not left and not self._was_terminated
        is_waited_for = self.gathered is not None and self.gathered.is_needed
        if self.gathered and not self.returns:
            self.gathered.dismiss(time.monotonic())
        if not (self.gathered and self.gathered.is_needed):  # or else it is closed last of all
            self._leave_queue()
        self._unlock()
        if self.member:
            self.member.close()
        self.gpus.close()
        self.metrics.close()
        self.stacks.close()
        self.sharer.close()
        self.feed.close()
        if self.meeting.nobody_came:
            self._record("NobodyMet")
        forget("peer.json")  # if the peer never started to read it
        self.children.contain(False)
        left = self.children.left()
        # Without a launcher in touch there is nobody who could start another attempt.
        in_touch = self.clients.alone_since is None and not is_waited_for
        kept = self.warm is not None and self.warm.is_kept
        self.stays = self._may_stay and kept and in_touch and not left and not self.returns
        self._decide_to_keep(left)
        if not self.stays and not self.keeps and not self.returns:
            self._cool()
        self._record("HostEnded", **self.children.owned.close(left, self.stays or self.returns))

    def _decide_to_keep(self, left: list[int]) -> None:
        """Decide whether what was imported stays here once the run is over, and write that down."""
        self.keeps = False
        if (
            self.returns
            or not self.keep
            or not self.warm
            or not self.warm.is_ready
            or left
            or self._was_terminated
        ):
            return
        why, detail = self._why_not_kept(self.warm)
        self.keeps = not why
        seconds = self._keeper.seconds if self._keeper and self.keeps else self.keep
        self._record(
            "KeptWarm", seconds=seconds, kept=self.keeps, why=why or None, detail=detail[:500]
        )

    def _why_not_kept(self, warm: Warm) -> tuple[str, str]:
        """Return why what was imported cannot stay, a code and a detail; "" where nothing is in the way:
        then all is open that it takes."""
        if not self._keeper:
            return ("no-place", self._no_place) if self._no_place else ("alone", "")
        # In a scope of its own a process has the limits of one run: see login_session.py.
        if self.children.owned.scope.pids:
            return "scope", ""
        try:
            if self._keeper.is_too_old(warm):
                return "too-old", ""
            self._keeper.open(warm, self.keep)
        except OSError as error:
            return "no-place", error.strerror or str(error)
        return "", ""


def _port_taken(port: int) -> Message:
    return dict(protocol.error("port-taken", "port %d is in use" % port), port=port)


class Hands:
    """What a run that waits with other hosts has done here: see gathered.py."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._owner = supervisor

    def lock(self, gpus: list[int]) -> bool:
        """Lock these GPUs; return False when one is not free."""
        try:
            return self._owner._lock(gpus) is None
        except OSError:
            return False

    def has_room(self) -> bool:
        """Return whether it could be written down that the run begins."""
        return self._owner.journal.has_room()

    def unlock(self) -> None:
        """Unlock all GPUs."""
        self._owner._unlock()

    def met(self, request: GatherRequest) -> None:
        """Write down that the hosts start the run by themselves from now on."""
        ways = request.get("ways")
        every = [way["tokens"] for way in ways] if ways else [request["tokens"]]
        of_run = {host for tokens in every for host in tokens}
        hosts = [host for host in request["gang"]["hosts"] if host in of_run]
        if len(hosts) == 1:
            self._owner._record("WaitsOnHost")
            return
        wanted = len(ways[0]["tokens"]) if ways else 0
        self._owner._record("WaitsOnHosts", hosts=hosts, wanted=wanted)

    def join(self, request: MemberRequest) -> bool:
        """Use GPUs in the name of a project; return False if that cannot be shown."""
        owner = self._owner
        try:
            owner._join(request)
        except OSError:
            return False
        return owner.member is not None and owner.machine.phase == machine.IDLE

    def leave_project(self) -> None:
        """Use none any more."""
        self._owner._join({"project": ""})

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
        owner = self._owner
        try:
            if request and owner._prepare(request):
                return False
        except OSError:
            return False
        hosts = list(way["tokens"])
        begun = owner._has_begun(
            seconds=seconds,
            gpus=given["gpus"],
            ports=given["ports"],
            hosts=hosts,
            master_addr=way["address"],
            interfaces=way["interfaces"],
            addresses=way["addresses"],
        )
        owner.chosen = hosts if begun else []
        if begun and owner.later:
            from .returning import kept_for_later

            owner.later = kept_for_later(owner.later, hosts, later)
        return begun

    def witness(self, later: Message | None) -> None:
        """Go on as one of those that only decide, once the run is over here."""
        if gathered := self._owner.gathered:
            gang: Any = dict(gathered.request["gang"], **(later or {}))
            self._owner.witnesses = gang

    def begin(self, request: StartRequest) -> None:
        """Start the processes."""
        if request["attempt"]:
            from .returning import stop_storing

            stop_storing()
        self._owner._begin(request)

    def end(self, why: str) -> None:
        """End the run here."""
        owner = self._owner
        owner._follow(owner.machine.stop(owner.grace, why, False, time.monotonic()))
