"""Owns the processes of one run on one host, from their start to the last one gone.

One supervisor a host and run, in a session of its own: it survives the SSH connection.
"""

import os
import select
import time

from ..base import protocol
from ..base.journal import Journal, forget, write_private
from ..base.lean import prctl, signal
from ..host import gpu_locks
from ..host.gpus import GpuWatch
from ..host.probe import port_is_free
from ..processes import login_session, processes
from ..processes.limits import Cores, in_words, limit
from ..processes.ownership import Owned
from . import errorfile
from .broadcast import News
from .clients import Clients
from .environment import environment
from .heartbeat import Contact
from .outcomes import Endings
from .stacks import StackTaker
from .stall import StallWatch

#: Seconds without a client before a supervisor that has started nothing gives up.
IDLE = 60.0
#: Seconds that a framework's own launcher has to end its node after one of its ranks has failed.
FRAMEWORK_REACTION = 1.0
#: Seconds that processes which outlive all ranks have before they are asked to end.
LINGER = 1.0


class Supervisor:
    """The loop of one host: clients, children, deadlines."""

    def __init__(self, spec):
        self.run_id, self.host, self.grace = spec["run_id"], spec["host"], spec["grace"]
        self.journal = Journal("journal.jsonl")
        self.children = {}  # pid -> (key, rank, error file) of what has not ended
        self.stage, self.started = None, set()
        self.attempt, self.elastic = spec.get("attempt", 0), None
        self.endings = Endings([])
        self.due = None  # (moment, grace, why, origin) at which the processes are asked to end
        self.kill_at = self.end_at = None
        self.stopped = self.over = self.terminated = False
        self.signalled = set()
        self.orphans = 0
        self.leases = []
        self.registered = gpu_locks.register(self.run_id)  # until the run is over here
        self.gpus = None
        self.owned = Owned(self.run_id, self.host)
        self.news = News(self._heard)  # of a run whose hosts do not know each other yet
        self.contact = Contact(spec.get("orphan_timeout"))
        self.stall = StallWatch(self._record, spec.get("stall"))
        self.stacks = StackTaker(self._record, spec.get("inside"))
        prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        self.clients = Clients()
        self.signals = processes.watch_signals(self._terminated)
        self.journal.append("SupervisorStarted", pid=os.getpid(), host=self.host)

    # -- the loop

    def serve(self):
        """Returns when the run has ended on this host and nothing of it is left.

        Clients are still connected then: the caller frees the run before it closes them.
        """
        while not self.over:
            callers = self.clients.sockets
            readable = [self.signals, *callers, *self.news.readable]
            found = select.select(readable, self.news.writable, [], self._patience())
            for ready in found[0] + found[1]:
                if ready == self.signals:
                    os.read(self.signals, 512)
                elif ready in callers:
                    self._hear(ready)
                else:
                    self.news.look(ready)
            self._reap()
            self._keep_time()
        if self.registered is not None:
            os.close(self.registered)

    def _patience(self):
        moments = [m for m in (self.kill_at, self.end_at) if m is not None]
        moments += [self.due[0]] if self.due else []
        moments += [self.stall.next_look, self.news.next_look, self.owned.next_look]
        if self.gpus:
            moments.append(self.gpus.next_look)
        if not self.stage and self.clients.alone_since:
            moments.append(self.clients.alone_since + IDLE)
        # Orphans are nobody's children and send no SIGCHLD to us: look for them.
        longest = 0.05 if self._is_ending() else min(5.0, self.contact.ends - time.monotonic())
        return max(0.0, min([longest] + [m - time.monotonic() for m in moments]))

    def _is_ending(self):
        return bool(self.signalled or (self.stage and not self.children))

    def _keep_time(self):
        now = time.monotonic()
        if self.terminated:
            self.terminated = False
            self.stop(self.grace, login_session.why_terminated())
        if self.due and now >= self.due[0]:
            self._end_processes(*self.due[1:])
        silent = None if self._is_ending() else self.contact.expired(now)
        if silent is not None:
            self._record("OrphanTimeoutExpired", silent=round(silent, 3))
            self.stop(self.grace, protocol.ORPHAN_TIMEOUT)
        if self.stage and not self.children:
            self._finish_stage(now)
        elif self.kill_at is not None and now >= self.kill_at:
            self._kill()
        if self.gpus:
            self.gpus.look(now)
        self.stall.look(now, self._is_ending())
        self.owned.look(now)
        self.news.keep_time(now)
        if not self.stage and self.stopped and not self.over:
            self._end()
        alone_since = self.clients.alone_since
        if not self.stage and alone_since and now - alone_since > IDLE:
            self.journal.append("SupervisorGaveUp", seconds=IDLE)
            self.over = True
        self.journal.flush()

    # -- requests

    def _hear(self, ready):
        for client, message in self.clients.hear(ready):
            answer = self._answer(client, message)
            if answer is not None:
                self.clients.send(client, answer)

    def _answer(self, client, message):
        operation = message["op"]
        if operation in ("start", "stop", "subscribe", "contact"):
            self.contact.renew()
        if operation == "start":
            return self.start(message)
        if operation == "stop":
            self.stop(message["grace"], message["why"], asked=True)
            return {"ok": {}}
        if operation == "subscribe":
            self.clients.subscribe(client)
            return {"ok": {}}
        if operation == "stacks":
            self.stacks.take(self.stall.watched, message["stamp"], self.host, self.base["PATH"])
            return {"ok": {}}
        if operation == "rank-started":
            self._record(
                "ProcessStarted", key=message["key"], rank=message["rank"], pid=message["pid"]
            )
        elif operation == "rank-exited":
            self._rank_exited(message)
        return None

    def _record(self, event, **fields):
        self.stall.heard(event, self.journal.append(event, attempt=self.attempt, **fields))
        self.clients.wake()

    # -- starting

    def start(self, request):
        """Starts the processes of a stage ("setup" or "run"), once however often it is asked."""
        mark = (request["stage"], request["attempt"])
        if mark in self.started:
            return {"ok": {}}
        if self.stopped:
            return _error("stopped", "the run was stopped before its processes were started")
        for port in filter(None, [request.get("port")] + request.get("ports", [])):
            if not port_is_free(port):
                return _port_taken(port)
        self.news.close()
        try:
            self.news = News(self._heard, self.host, request.get("news"))
        except OSError:
            return _port_taken(request["news"]["port"])
        try:
            self.leases = self.leases or gpu_locks.take(request.get("gpus", []), self.run_id)
        except gpu_locks.Busy as busy:
            return dict(_error("gpu-busy", str(busy)), gpu=busy.index, holder=busy.holder)
        self.started.add(mark)
        self.stage, self.attempt = mark
        self.base = environment(request)
        self.elastic = request.get("elastic")  # "head" or "member" of a group that can shrink
        os.makedirs(os.path.join("logs", "attempt-%d" % self.attempt), exist_ok=True)
        if request.get("gpus"):
            self.stall.gpus = request["gpus"]
            self.gpus = GpuWatch(self._record, request["gpu_uuids"])
        if "peer" in request:  # with a key: its reader removes it at once
            write_private("peer.json", request["peer"])
        self.endings, self.cores = Endings(request["processes"]), Cores(self.run_id)
        self.owned.prepare([process.get("limits", {}) for process in request["processes"]])
        for process in request["processes"]:
            self._start_one(process)
        return {"ok": {}}

    def _start_one(self, process):
        key, rank = process["key"], process.get("rank")
        stem = os.path.join("logs", "attempt-%d" % self.attempt, key)
        wish = process.get("limits", {})
        held = limit(wish, self.cores, self.owned.leaf(self._leaf(key), wish))
        error_file = errorfile.prepare(process["env"])
        env = {**self.base, **process["env"], "PATH": self.base["PATH"]}
        if self.stage == "run":
            self.stacks.prepare(env)
        try:
            pid = processes.start(
                process["argv"],
                env,
                process["cwd"],
                stem + ".out",
                stem + ".err",
                held,
            )
        except OSError as error:
            with open(stem + ".err", "a") as file:
                file.write("launcher: cannot start %s: %s\n" % (process["argv"][0], error.strerror))
            self._failed_to_start(key, rank, error)
            return
        self.children[pid] = (key, rank, error_file)
        self.owned.started(pid, self._leaf(key), held)
        words = in_words(held or {})
        told = dict(self.endings.about(key), **({"limits": words} if words else {}))
        self._record("ProcessStarted", key=key, rank=rank, pid=pid, **told)

    def _failed_to_start(self, key, rank, error):
        missing = isinstance(error, FileNotFoundError)
        code = protocol.NOT_FOUND if missing else protocol.NOT_EXECUTABLE
        self._record("ProcessExited", key=key, rank=rank, code=code, at=time.time())
        self._fail(0.0)

    # -- ends

    def _terminated(self):
        """Who ends us may have ended our children in the same moment: that is no failure of theirs."""
        self.signalled.update(self.children)
        self.terminated = True

    def _reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.stacks.reaped(pid) or self.owned.reaped(pid):
                continue
            if self.gpus and self.gpus.reaped(pid):
                continue
            if pid in self.children:
                self._exited(pid, status)

    def _exited(self, pid, status):
        key, rank, error_file = self.children.pop(pid)
        code, at = processes.exit_code(status), time.time()
        error = errorfile.read(error_file) if code else None
        cause = self._cause(key, code, error, self.stage == "run" and self.elastic == "member")
        failed, told = self.endings.ended(key, code)
        self._record("ProcessExited", key=key, rank=rank, code=code, at=at, **dict(cause, **told))
        if failed and "tolerated" not in cause:
            self._fail(self.endings.patience(key))
        if self.endings.is_primary(key) and not failed:
            self.news.tell(primary=key)
        self._follow_the_primaries()

    def _follow_the_primaries(self):
        if self.endings.over and self.children and not self.signalled:
            self._end_processes(self.grace, protocol.PRIMARY_FINISHED)

    def _rank_exited(self, message):
        code = message["code"]
        cause = self._cause(message["key"], code, message.get("error"), bool(self.elastic))
        self._record(
            "ProcessExited",
            key=message["key"],
            rank=message["rank"],
            code=code,
            at=message["at"],
            **cause,
        )
        if code != 0 and "tolerated" not in cause:
            self._fail(FRAMEWORK_REACTION)

    def _leaf(self, key):
        return "%d-%s" % (self.attempt, key)

    def _cause(self, key, code, error, tolerated):
        """Evidence that belongs to an exit: whether we did it, or the kernel for want of memory, and
        what the process itself wrote about it; and whether torchrun can go on."""
        cause = {"error": error} if error else {}
        if tolerated and code != 0 and not self.signalled:
            cause["tolerated"] = True
        if self.signalled:
            cause["stopped"] = True
        if code in processes.KILLED and not self.signalled:
            cause.update(self.owned.killed_for_memory(self._leaf(key)))
        return cause

    def _fail(self, delay):
        """One process failed: the others end as well, here and elsewhere."""
        if not self.due and not self.signalled:
            self.due = (time.monotonic() + delay, self.grace, protocol.PROCESS_FAILED, None)
            self.news.tell(over=protocol.PROCESS_FAILED, delay=delay, grace=self.grace)

    def _heard(self, word):
        """Another host says that a primary process has exited well, or that the run is over."""
        if "primary" in word:
            self.endings.ended_elsewhere(word["primary"])
            self._follow_the_primaries()
            return
        why, origin = word["over"], word["host"]
        if word["grace"] <= 0 and self.children:
            self._end_processes(0.0, why, origin)
        elif self.children and not self.due and not self.signalled:
            self.due = (time.monotonic() + word["delay"], word["grace"], why, origin)

    def stop(self, grace, why, asked=False):
        """The run is over here: ends everything, kills what is left after ``grace`` seconds."""
        self.stopped = True
        self._end_processes(grace, why, asked=asked)
        if (
            why != protocol.ORPHAN_TIMEOUT
        ):  # that of the others is over as well, or they are still in touch
            self.news.tell(over=why, delay=0.0, grace=grace)

    def _end_processes(self, grace, why, origin=None, asked=False):
        """``why`` is a code; ``origin`` the host that told of it, where that is another one."""
        self.due = None
        owned = self._owned()
        told = {"origin": origin} if origin else {}
        self._record(
            "StopRequested", why=why, grace=grace, processes=len(owned), asked=asked, **told
        )
        self._ask_to_end(owned, grace)
        if grace <= 0:
            self._kill()

    def _ask_to_end(self, owned, grace):
        self.owned.ask([pid for pid in owned if pid not in self.signalled])
        processes.send(owned, signal.SIGCONT)  # what is stopped hears SIGTERM only when it goes on
        self.signalled.update(owned)
        deadline = time.monotonic() + grace
        self.kill_at = deadline if self.kill_at is None else min(deadline, self.kill_at)

    def _kill(self):
        owned = self._owned()
        if owned:
            self._record("ProcessesKilled", processes=len(owned))
        self.owned.kill(owned)
        self.signalled.update(owned)
        self.kill_at = time.monotonic() + 0.1 if owned else None

    def _owned(self):
        """Everything of this run here but our own helpers."""
        return self.owned.find(self.stacks.pids | (self.gpus.pids if self.gpus else set()))

    def _finish_stage(self, now):
        """All that we started has ended. What outlived it has a moment, then it is ended too."""
        left = self._owned()
        if not left:
            self._stage_ended()
        elif self.owned.only_cleaning(left):
            pass
        elif not self.orphans:
            self.orphans = len(left)
            self.end_at = now + (0.0 if self.signalled else LINGER)
        elif self.end_at is not None and now >= self.end_at:
            self.end_at = None
            self._record("OrphansFound", processes=[processes.describe(pid) for pid in left])
            self._ask_to_end(left, self.grace)
        elif self.kill_at is not None and now >= self.kill_at:
            self._kill()

    def _stage_ended(self):
        if self.orphans:
            self._record("OrphansEnded", processes=self.orphans)
        stage, self.stage = self.stage, None
        self.due = self.kill_at = self.end_at = None
        self.orphans, self.signalled = 0, set()
        if stage == "run":
            self._end()

    def _end(self):
        for fd in self.leases:
            os.close(fd)
        self.leases = []
        if self.gpus:
            self.gpus.close()
        self.stacks.close()
        forget("peer.json")  # where nobody came to read it
        self._record("HostEnded", **self.owned.close(self._owned()))
        self.over = True


def _port_taken(port):
    return dict(_error("port-taken", "port %d is in use" % port), port=port)


def _error(code, message):
    return {"error": {"code": code, "message": message}}
