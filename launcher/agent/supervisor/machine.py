"""Decides what happens to a run on one host: when its processes are asked to stop, when they are
killed, what the other hosts are told, and when the run is over here.

It is pure: it has no clock, and starts, signals and writes nothing. The supervisor calls it with what
has happened, and follows the instructions that it returns.
"""

from __future__ import annotations

from ..base import protocol
from .heartbeat import Heartbeat
from .outcomes import Outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import Message, ProcessSpec

#: Seconds without a client before a supervisor that has started nothing gives up.
UNUSED = 60.0
#: Seconds for a framework's own launcher to stop its node after one of its ranks has failed.
FRAMEWORK_REACTION = 1.0
#: Seconds that processes may outlive all that we started before they are asked to stop.
LINGER = 1.0
#: Seconds until processes that were killed are looked for again.
KILL_AGAIN = 0.1
#: Seconds between two looks while processes stop: nothing reports the exit of an orphan.
LOOK = 0.05

#: No stage runs: before the first, and between two.
IDLE = "idle"
#: The processes of a stage run, or have exited and left orphans that still run.
RUNNING = "running"
#: They were asked to stop: an exit from now on is not a failure.
STOPPING = "stopping"
#: The run is over on this host.
OVER = "over"


class Exited:
    """A process that has exited, at ``at`` by the host's clock.

    ``evidence`` is what is known of the cause: ``error``, which it wrote itself, ``oom`` and
    ``limit``.
    """

    __slots__ = ("at", "code", "evidence", "key", "rank")

    def __init__(
        self, key: str, rank: int | None, code: int, at: float, evidence: Message | None = None
    ) -> None:
        self.key, self.rank, self.code, self.at = key, rank, code, at
        self.evidence: Message = evidence or {}


class Instruction:
    """What the supervisor has to do; two with the same fields are equal."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._fields() == other._fields()

    def __repr__(self) -> str:
        return "%s%r" % (type(self).__name__, self._fields())

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Record(Instruction):
    """Write an event into the journal."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, **fields: Any) -> None:
        self.event, self.fields = event, fields


class Tell(Instruction):
    """Tell the other hosts of the run."""

    __slots__ = ("word",)

    def __init__(self, **word: Any) -> None:
        self.word = word


class Stop(Instruction):
    """Record the stop, and ask everything of the run here to stop.

    ``why`` is a code, ``origin`` the other host that reported it, if any, and ``asked`` whether a
    launcher requested it.
    """

    __slots__ = ("asked", "grace", "origin", "why")

    def __init__(self, grace: float, why: str, origin: str | None = None, asked: bool = False):
        self.grace, self.why, self.origin, self.asked = grace, why, origin, asked


class StopOrphans(Instruction):
    """Record these, and ask them to stop: they have outlived all that we started."""

    __slots__ = ("pids",)

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids


class Kill(Instruction):
    """Kill everything of the run here."""


class Look(Instruction):
    """Look for what is left of the run here, and answer with :meth:`Machine.found`."""


class Close(Instruction):
    """Free what the run holds here, and record its end."""


class Due:
    """A stop that is due at a moment, unless another one comes first."""

    def __init__(self, at: float, grace: float, why: str, origin: str | None) -> None:
        self.at, self.grace, self.why, self.origin = at, grace, why, origin


class Machine:
    """The state of a run on one host. Methods report what has happened and return instructions.

    Do not modify attributes from outside. ``now`` is a moment of one monotonic clock; all else is in
    seconds. ``grace`` is the run's default; ``orphan_timeout`` is how long it survives without a
    launcher, None for ever.
    """

    def __init__(
        self, grace: float, orphan_timeout: float | None, now: float, attempt: int = 0
    ) -> None:
        self.phase = IDLE
        self.stage, self.attempt = "", attempt
        self.stopped = False  # no further stage starts
        self.waits = False  # for GPUs: it needs no client until its turn has come
        self.has_failed = False  # a process, by itself
        self._grace = grace
        self._heartbeat = Heartbeat(orphan_timeout, now)
        self._begun: set[tuple[str, int]] = set()
        self._outcomes = Outcomes([])
        self._elastic: str | None = None
        self._running: set[str] = set()  # keys
        self._due: Due | None = None
        self._kill_at: float | None = None
        self._orphans = 0  # how many have outlived all that we started
        self._stop_orphans_at: float | None = None
        self._until: float | None = None  # when the run is stopped, however far it is

    # -- questions of the supervisor

    @property
    def is_ending(self) -> bool:
        """Whether the processes that we started have exited or were asked to."""
        return self.phase == STOPPING or (self.phase == RUNNING and not self._running)

    @property
    def has_begun(self) -> bool:
        """Whether any stage was started."""
        return bool(self._begun)

    @property
    def heard_at(self) -> float:
        """When a launcher was heard last."""
        return self._heartbeat.heard

    def was_begun(self, stage: str, attempt: int) -> bool:
        """Return whether this stage of this attempt was started before."""
        return (stage, attempt) in self._begun

    def next_tick(self, now: float, alone_since: float | None) -> float:
        """Return the moment by which to call :meth:`tick`, if nothing happens before."""
        if self.phase == IDLE and self.stopped:
            return now  # nothing more is to come
        moments = [now + LOOK if self.is_ending else self._heartbeat.deadline]
        others = (self._kill_at, self._stop_orphans_at, self._until)
        moments += [moment for moment in others if moment is not None]
        if self._due:
            moments.append(self._due.at)
        if self.phase == IDLE and alone_since is not None and not self.waits:
            moments.append(alone_since + UNUSED)
        return min(moments)

    # -- launchers

    def heard_launcher(self, now: float) -> None:
        """Note that a launcher is in touch."""
        self._heartbeat.renew(now)

    def stop(self, grace: float, why: str, asked: bool, now: float) -> list[Instruction]:
        """Stop the run on all hosts; what is left after ``grace`` is killed."""
        self.stopped = True
        out = self._stop(grace, why, None, asked, now)
        # An orphan timeout is each host's own: others may still be in touch with a launcher.
        if why != protocol.ORPHAN_TIMEOUT:
            out.append(Tell(over=why, delay=0.0, grace=grace))
        return out

    def terminated(self) -> None:
        """Note that the supervisor got SIGTERM; :meth:`stop` follows.

        Its children may have got the signal at the same moment: their exits are no failures.
        """
        if self._running:
            self.phase = STOPPING

    def wait(self) -> None:
        """Note that the run waits for GPUs, and begins when these are free."""
        self.waits = True

    def leave(self) -> None:
        """Wait no longer, as if the host had lost power: it may reboot. The run is not over; whoever
        follows it lets it wait again."""
        self.phase = OVER

    # -- processes

    def begin(
        self,
        stage: str,
        attempt: int,
        processes: Iterable[ProcessSpec],
        elastic: str | None,
        until: float | None = None,
    ) -> None:
        """Begin a stage, which may last ``until`` then; what an earlier one has left behind still runs
        beside it."""
        self._begun.add((stage, attempt))
        self.waits = False
        self._leave_stage()
        self.phase, self.stage, self.attempt = RUNNING, stage, attempt
        self._elastic, self._outcomes, self._until = elastic, Outcomes(processes), until

    def started(self, key: str, rank: int | None, pid: int, limits: str) -> list[Instruction]:
        """Note that a process was started; ``limits`` describes how it is limited."""
        self._running.add(key)
        more = self._outcomes.about(key)
        if limits:
            more["limits"] = limits
        return [Record("ProcessStarted", key=key, rank=rank, pid=pid, **more)]

    def could_not_start(self, process: Exited, now: float) -> list[Instruction]:
        """Note that a process could not be started, which is a failure."""
        return [_record(process, {}), *self._fail(0.0, now)]

    def exited(self, process: Exited, now: float) -> list[Instruction]:
        """Note that a process that we started has exited."""
        self._running.discard(process.key)
        tolerated = self.stage == "run" and self._elastic == "member"
        cause = self._cause(process, tolerated)
        failed, action = self._outcomes.exited(process.key, process.code)
        out: list[Instruction] = [_record(process, dict(cause, **action))]
        if failed and "tolerated" not in cause:
            out += self._fail(self._outcomes.patience(process.key), now)
        if self._outcomes.is_primary(process.key) and not failed:
            out.append(Tell(primary=process.key))
        return out + self._follow_primaries(now)

    def rank_exited(self, process: Exited, now: float) -> list[Instruction]:
        """Note that a rank of a framework's own launcher has exited. That launcher may react first."""
        cause = self._cause(process, bool(self._elastic))
        out: list[Instruction] = [_record(process, cause)]
        if process.code != 0 and "tolerated" not in cause:
            out += self._fail(FRAMEWORK_REACTION, now)
        return out

    # -- other hosts

    def heard(self, word: Message, now: float) -> list[Instruction]:
        """Obey another host: a primary process of it has succeeded, or the run is over."""
        if "primary" in word:
            self._outcomes.succeeded_elsewhere(word["primary"])
            return self._follow_primaries(now)
        if "over" not in word or not self._running:  # not "over": of a later version
            return []
        if word["grace"] <= 0:
            return self._stop(0.0, word["over"], word["host"], False, now)
        if self.phase == RUNNING and not self._due:
            self._due = Due(now + word["delay"], word["grace"], word["over"], word["host"])
        return []

    # -- time

    def tick(self, now: float, alone_since: float | None = None) -> list[Instruction]:
        """Do what is due. No client is connected since ``alone_since``; None while one is."""
        out: list[Instruction] = []
        if self._due and now >= self._due.at:
            out += self._stop(self._due.grace, self._due.why, self._due.origin, False, now)
        if self._until is not None and now >= self._until:
            self._until = None
            if not self.is_ending:
                out += self.stop(self._grace, protocol.TIME_LIMIT, False, now)
        silent = None if self.is_ending else self._heartbeat.expired(now)
        if silent is not None:
            out.append(Record("OrphanTimeoutExpired", silent=round(silent, 3)))
            out += self.stop(self._grace, protocol.ORPHAN_TIMEOUT, False, now)
        if self.phase in (RUNNING, STOPPING) and not self._running:
            out.append(Look())
        elif self._kill_at is not None and now >= self._kill_at:
            out += self._kill(now)
        if self.phase == IDLE and self.stopped:
            out += self._close()
        elif self._is_unused(now, alone_since):
            self.phase = OVER
            out.append(Record("SupervisorGaveUp", seconds=UNUSED))
        return out

    def _is_unused(self, now: float, alone_since: float | None) -> bool:
        if self.phase != IDLE or self.waits or alone_since is None:
            return False
        return now - alone_since > UNUSED

    def found(self, left: list[int], cleaning: bool, now: float) -> list[Instruction]:
        """Decide about what is ``left`` of the run here.

        ``cleaning``: whether all of these only clean up, and still have time for it.
        """
        if self._running or self.phase not in (RUNNING, STOPPING):
            return []
        if not left:
            return self._end_stage()
        if cleaning:
            return []
        if not self._orphans:
            self._orphans = len(left)
            self._stop_orphans_at = now + (0.0 if self.phase == STOPPING else LINGER)
        elif self._stop_orphans_at is not None and now >= self._stop_orphans_at:
            self._stop_orphans_at = None
            self.phase = STOPPING
            self._kill_by(now + self._grace)
            return [StopOrphans(left)]
        elif self._kill_at is not None and now >= self._kill_at:
            return self._kill(now)
        return []

    # -- decisions

    def _cause(self, process: Exited, tolerated: bool) -> Message:
        """Return the cause of an exit for the journal.

        ``stopped``: we asked for it, so running out of memory explains nothing. ``tolerated``: it
        failed, but its framework can continue.
        """
        evidence = process.evidence
        if self.phase == STOPPING:
            error = {"error": evidence["error"]} if "error" in evidence else {}
            return dict(error, stopped=True)
        return dict(evidence, tolerated=True) if tolerated and process.code else dict(evidence)

    def _fail(self, delay: float, now: float) -> list[Instruction]:
        """Stop the run on all hosts in ``delay`` seconds, because a process failed."""
        self.has_failed = self.has_failed or self.phase == RUNNING
        if self.phase != RUNNING or self._due:
            return []
        self._due = Due(now + delay, self._grace, protocol.PROCESS_FAILED, None)
        return [Tell(over=protocol.PROCESS_FAILED, delay=delay, grace=self._grace)]

    def _follow_primaries(self, now: float) -> list[Instruction]:
        if self._outcomes.over and self._running and self.phase == RUNNING:
            return self._stop(self._grace, protocol.PRIMARY_FINISHED, None, False, now)
        return []

    def _stop(
        self, grace: float, why: str, origin: str | None, asked: bool, now: float
    ) -> list[Instruction]:
        self._due = None
        out: list[Instruction] = [Stop(grace, why, origin, asked)]
        if self.phase == RUNNING:
            self.phase = STOPPING
        self._kill_by(now + grace)
        return out + self._kill(now) if grace <= 0 else out

    def _kill_by(self, moment: float) -> None:
        """Set the moment of the kill, or move it nearer."""
        self._kill_at = moment if self._kill_at is None else min(moment, self._kill_at)

    def _kill(self, now: float) -> list[Instruction]:
        self._kill_at = now + KILL_AGAIN
        return [Kill()]

    def _leave_stage(self) -> None:
        self.phase, self.stage = IDLE, ""
        self._running = set()
        self._due = self._kill_at = self._stop_orphans_at = self._until = None
        self._orphans = 0

    def _end_stage(self) -> list[Instruction]:
        out: list[Instruction] = []
        if self._orphans:
            out.append(Record("OrphansEnded", processes=self._orphans))
        was_last = self.stage == "run" or self.stopped
        self._leave_stage()
        return out + self._close() if was_last else out

    def _close(self) -> list[Instruction]:
        self.phase = OVER
        return [Close()]


def _record(process: Exited, more: Message) -> Record:
    key, rank, code, at = process.key, process.rank, process.code, process.at
    return Record("ProcessExited", key=key, rank=rank, code=code, at=at, **more)
