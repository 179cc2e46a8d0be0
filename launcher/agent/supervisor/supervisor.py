"""Owns the processes of one run on one host, from their start until the last one is gone.

There is one supervisor for each run and host. It has a session of its own, so it survives the SSH
connection. machine.py decides what is done when; this module does it.
"""

from __future__ import annotations

import binascii
import os
import select
import time

from ..base import protocol
from ..base.journal import Journal, forget, write_private
from ..base.lean import prctl
from ..host.gpus import GpuWatch
from ..host.probe import port_is_free
from ..processes import login_session, processes
from . import machine, requests
from .broadcast import Broadcast
from .children import Children
from .claims import Claims, port_taken
from .clients import Clients
from .feed import Feed
from .imported_ahead import ImportedAhead
from .machine import Machine
from .meeting import Meeting
from .metrics import Metrics
from .queueing import Queueing
from .sharer import Sharer
from .stacks import StackTaker
from .stall import StallWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..base.lean import Socket
    from ..base.messages import (
        Message,
        PreloadRequest,
        ProcessSpec,
        StartRequest,
        SupervisorSpec,
    )
    from ..processes.own_hosts import OwnHosts
    from .children import Helper
    from .projects.member import Member
    from .warm.forking import Warm
    from .warm.keeper import Keeper

#: Why a run is stopped when the request does not say.
BY_USER = "by-user"
#: Most seconds between two looks at anything.
LONGEST = 5.0
#: What a launcher of another version hears that asks for what few runs need.
PART_ONLY = "what it takes to %s is not there; only the version that started the run can bring it"


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
        self.claims = Claims(self.run_id)
        self.queue = Queueing(self)
        self.member: Member | None = None  # of a project
        self._ends_at: float | None = before._ends_at if before else None  # for its time is over
        self.stall = StallWatch(self.record, spec.get("stall"))
        self.stacks = StackTaker(self.record, bool(spec.get("inside")))
        self.gpus = GpuWatch(self.record)
        self.sharer = Sharer()
        self.feed = Feed()
        self.metrics = Metrics()
        self.meeting = Meeting()
        #: URLs to store outputs by while no launcher is in touch, and when they came. They are secrets.
        self._urls: tuple[Message, float] | None = before._urls if before else None
        helpers: list[Helper] = [self.stacks, self.gpus, self.sharer, self.metrics]
        self.children: Children = Children(
            self.run_id, self.host, helpers, before.children if before else None
        )
        there = (warm, keeper, spec.get("no_place") or "")
        if before:
            there = (before.ahead.warm, before.ahead.keeper, before.ahead.no_place)
        self.ahead: ImportedAhead = ImportedAhead(spec, self.record, self.children, there)
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
            "wait": self.queue.wait,
            "gather": self.queue.gather,
            "gang": self.queue.gang,
            "return": self.queue.keep_for_later,
            "move": self.queue.move,
            "member": self._be_member,
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
            self.queue.heard(found[0], found[1])
            for ready in found[0]:
                self._look(ready, callers)
            for ready in found[1]:
                self._write(ready)
            self._reap()
            self._keep_time()
        if not self.ahead.stays and not self.ahead.keeps and not self.queue.returns:
            self.ahead.cool()
        self.claims.close()

    def _sockets(self) -> tuple[list[Any], list[Any]]:
        """Return what to read from, and what to write to once it takes more."""
        readable = [self.signals, *self.clients.sockets, *self.broadcast.readable]
        readable += [*self.queue.readable, *self.ahead.readable]
        writable = [*self.clients.writable, *self.broadcast.writable]
        return readable, [*writable, *self.queue.writable, *self.feed.writable]

    def _look(self, ready: Any, callers: list[Socket]) -> None:
        """Read from what is ready."""
        if ready == self.signals:
            os.read(self.signals, 512)
        elif ready in callers:
            self._hear(ready)
        elif ready in self.broadcast.readable:
            self.broadcast.look(ready)
        elif ready in self.ahead.readable:
            self.ahead.heard()

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
        moments += [self.meeting.next_look, self.ahead.next_look, self.queue.next_look(now)]
        moments += [self.member.next_look] if self.member else []
        return max(0.0, min([*moments, self.children.owned.next_look]) - now)

    def _keep_time(self) -> None:
        if self.terminated:
            self.terminated, self._was_terminated = False, True
            if self.machine.waits and not self.machine.stopped:
                self.machine.leave()
            else:
                self.stop(login_session.why_terminated())
        now = time.monotonic()
        self._follow(self.machine.tick(now, self.clients.alone_since))
        if self.machine.phase != machine.OVER:
            self.gpus.look(now)
            self.stall.look(now, self.machine.is_ending)
            self.metrics.look(now)
            self.feed.look(now)
            self.meeting.look(now)
            self.ahead.look(now)
            self.children.owned.look(now)
            self.broadcast.keep_time(now)
            self.queue.look(now)
            self.children.look(now)
            self._look_at_project(now)
        self.claims.drain(self.member.sockets if self.member else [])
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
        except ImportError:  # this host was given the first part of the agent alone
            return protocol.error(protocol.UNKNOWN_REQUEST, PART_ONLY % message["op"])
        except Exception as error:
            import traceback

            traceback.print_exc()  # into supervisor.log
            return protocol.error("internal-error", "%s: %s" % (type(error).__name__, error))

    # -- requests

    def _do(self, client: Socket, operation: str, message: Any) -> Message | None:
        if operation in requests.OF_LAUNCHERS:
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
            self.record("ProcessStarted", key=key, rank=rank, pid=pid)
            if rank == 0:
                self.feed.begin()
        elif operation == "rank-exited":
            self._rank_exited(message)
        elif operation == "share-trouble":
            names = ("code", "path", "other", "detail")
            self.record("ShareTroubled", **{name: message[name] for name in names})
        elif operation == "stored-alone":  # of the attempt before
            of_store = ("attempt", "files", "bytes", "missing", "problem")
            fields = {name: message[name] for name in of_store}
            self.tell(self.journal.append("StoredAlone", **fields))

    def stop(self, why: str) -> None:
        """Stop the run on behalf of its host."""
        self._follow(self.machine.stop(self.grace, why, False, time.monotonic()))

    def _stop(self, request: Any) -> Message:
        grace = self.grace if request.get("grace") is None else request["grace"]
        why = request.get("why") or BY_USER
        if request.get("attempt") is not None and not self._runs(request["attempt"]):
            return {"ok": {}}  # another host has stopped it, and this one knows
        self._follow(self.machine.stop(grace, why, True, time.monotonic()))
        return {"ok": {}}

    def _runs(self, attempt: int) -> bool:
        """Return whether processes of an attempt run here that nobody has asked to stop."""
        here = self.machine
        return here.phase == machine.RUNNING and here.attempt == attempt and not here.is_ending

    def _feed(self, message: Any) -> Message:
        """Take bytes of the user's stdin. Until the processes start there is nobody to give them to."""
        try:
            data = binascii.a2b_base64(message["data"])
        except ValueError as error:
            raise requests.Refused(protocol.BAD_REQUEST, "data: %s" % error)
        return {"ok": self.feed.take(message["offset"], data, bool(message.get("end")))}

    def _take_urls(self, message: Message) -> Message:
        from ..base import manifest  # noqa: F401  what stores outputs at the end needs it, too

        if self._urls is None:
            self.record("UrlsLeft", seconds=message["seconds"], urls=len(message["urls"]))
        self._urls = (message, time.monotonic())
        return {"ok": {}}

    def left_to_store(self) -> tuple[Message, float, float, bool] | None:
        """Return what outputs can be stored by once the run is over here: URLs, their age, for how long
        no launcher was heard, and whether none is connected; None without any."""
        if self._urls is None or not self._urls[0]["urls"] or self.machine.waits:
            return None
        message, since = self._urls
        if self.queue.hands.chosen:  # the message names all that it could have begun on
            message = dict(message, hosts=self.queue.hands.chosen)
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
        refusal = self.prepare(request)
        if refusal:
            return refusal
        self.begin(request)
        return {"ok": {}}

    def begin(self, request: StartRequest) -> None:
        """Start the processes of a stage, for which everything is prepared."""
        stage, attempt, specs = request["stage"], request["attempt"], request["processes"]
        seconds, until = self._time_left(request.get("seconds"))
        self.machine.begin(stage, attempt, specs, request.get("elastic"), until)
        if seconds is not None:
            self.claims.limit(seconds)
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
            self.ahead.begun(bool(request.get("stay")))
            if self.member:
                self.member.begin(time.monotonic())

    def _time_left(self, seconds: float | None) -> tuple[float | None, float | None]:
        """Return for how many seconds the run may go on, of those that it had from its first attempt on,
        and until when."""
        if seconds is None:
            return None, None
        now = time.monotonic()
        if self._ends_at is not None:
            seconds = max(1.0, min(seconds, self._ends_at - now))
        self._ends_at = now + seconds
        return seconds, self._ends_at

    def prepare(self, request: StartRequest) -> Message | None:
        """Take ports and GPUs for a stage; return an error when they are not free."""
        if self.machine.stopped:
            return protocol.error(
                "stopped", "the run was stopped before its processes were started"
            )
        for port in filter(None, [request.get("port"), *(request.get("ports") or [])]):
            if not port_is_free(port):
                return port_taken(port)
        self.broadcast.close()
        news = request.get("news")
        try:
            self.broadcast = Broadcast(self._heard, self.host, news)
        except OSError:
            return port_taken(news["port"] if news else 0)
        share = request.get("share")
        try:
            self.sharer.listen(self.host, share)
        except OSError:
            return port_taken(share["port"] if share else 0)
        return self.claims.lock(request.get("gpus") or [])

    def _preload(self, request: PreloadRequest) -> Message:
        if not self.machine.stopped:
            self.ahead.preload(request, self.stacks)
        return {"ok": {}}

    def _claim(self, request: Any) -> Message:
        """Lock these GPUs for the next stage, and no others; do nothing while one runs."""
        if self.machine.phase == machine.IDLE:
            self.claims.unlock()
            return self.claims.lock(request.get("gpus") or []) or {"ok": {}}
        return {"ok": {}}

    # -- its project

    def _be_member(self, request: Any) -> Message:
        self.join(request)
        return {"ok": {}}

    def join(self, request: Any) -> bool:
        """Use GPUs in the name of a project, or of none; do nothing while a stage runs. Return whether
        they are a project's."""
        if self.machine.phase == machine.IDLE and not self.machine.stopped:
            before, after = self.member, None
            if request["project"]:
                from .projects.member import Member  # few runs have a project

                after = Member(self.run_id, request, time.time())
            self.member = after
            if before:
                before.close()
        return self.member is not None and self.machine.phase == machine.IDLE

    def leave_project(self) -> None:
        """Use GPUs in the name of no project."""
        self.join({"project": ""})

    def _look_at_project(self, now: float) -> None:
        """Give the GPUs back if a run that may take them asks for that."""
        if self.member is None or self.machine.is_ending:
            return
        taker = self.member.look(now)
        if taker is not None:
            run, user, project = taker["run"], taker["user"], taker["project"]
            self.record("TakenBack", run=run, user=user, project=project)
            self.stop(protocol.PREEMPTED)

    def _start_one(self, process: ProcessSpec) -> None:
        key, rank = process["key"], process.get("rank")
        env = self.children.environment(process)
        warm = None
        if self.machine.stage == "run":
            self.stacks.prepare(env)
            warm = self.ahead.warm
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
                self.record(each.event, **each.fields)
            elif isinstance(each, machine.Tell):
                self.broadcast.tell(**each.word)
            elif isinstance(each, machine.Stop):
                self._ask_all(each)
            elif isinstance(each, machine.StopOrphans):
                found = [processes.describe(pid) for pid in each.pids]
                self.record("OrphansFound", processes=found)
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

    def record(self, event: str, **fields: Any) -> None:
        self.tell(self.journal.append(event, attempt=self.machine.attempt, **fields))

    def tell(self, record: Message) -> None:
        self.stall.heard(record["event"], record)
        self.meeting.heard(record["event"], record)
        self.clients.wake()

    def _ask_all(self, stop: machine.Stop) -> None:
        self.ahead.stopping(stop.why)
        left = self.children.left()
        origin = {"origin": stop.origin} if stop.origin else {}
        self.record(
            "StopRequested",
            why=stop.why,
            grace=stop.grace,
            processes=len(left),
            asked=stop.asked,
            **origin,
        )
        self.queue.stopping(stop.why)
        self.children.ask(left)

    def _kill(self) -> None:
        left = self.children.left()
        if left:
            self.record("ProcessesKilled", processes=len(left))
        self.children.kill(left)

    def wait_again(self, before: Supervisor) -> None:
        """Wait with the attempt that follows the one ``before``, which has given its GPUs back."""
        self.machine.heard_launcher(before.machine.heard_at)
        self.queue.wait_again(before.queue)

    def _close(self) -> None:
        is_waited_for = self.queue.end(self.children.left(), self._was_terminated)
        self.claims.unlock()
        if self.member:
            self.member.close()
        self.gpus.close()
        self.metrics.close()
        self.stacks.close()
        self.sharer.close()
        self.feed.close()
        if self.meeting.nobody_came:
            self.record("NobodyMet")
        forget("peer.json")  # if the peer never started to read it
        self.children.contain(False)
        left = self.children.left()
        in_touch = self.clients.alone_since is None and not is_waited_for
        returns = self.queue.returns
        self.ahead.decide(left, in_touch, self._was_terminated, returns)
        self.record("HostEnded", **self.children.owned.close(left, self.ahead.stays or returns))
