"""The receipt of a run: how it ended, with numbers that were counted, not assumed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field, replace
from enum import StrEnum
from typing import Any

from ..spec.environments import Environment
from ..spec.errors import HANGS
from ..spec.frozen import frozen
from ..spec.model import Layout
from . import causes, compat, formats
from . import events as ev
from .last_words import essence, headline
from .metrics import HostUse
from .postmortem import LastLine, OtherEnd
from .reasons import EndReason, StopReason
from .state import Expiry, RunState
from .stored import Alone

#: What to do about a reason that comes without one of launcher's own errors.
HINTS: Mapping[str, str] = {
    EndReason.SUPERVISOR_SILENT: HANGS,
    EndReason.BAD_ANSWER: "launcher ignores that host from then on; what runs there is stopped when it "
    "is next reached",
    StopReason.TIME_LIMIT: "give it longer with --time, and let it continue from its checkpoints",
    StopReason.PREEMPTED: "launcher attach lets it wait again and continue; --from RUN starts a new one",
    StopReason.HOSTS_PARTED: "its hosts lost each other; start it again: launcher rerun",
    StopReason.WAIT_OVER: "--wait forever waits for as long as it takes",
    StopReason.LOGIN_SESSION_ENDED: "systemd-logind on that host kills your processes at logout "
    "(KillUserProcesses=yes); launcher check says how a run can outlive it",
}

#: At most so many last lines of a failed process; of its traceback, if it has one.
LAST_LINES = 12
TRACEBACK = "Traceback (most recent call last)"
#: The frame of torch's ``@record`` itself, with its quoted source: every error file has it.
_RECORD_FRAME = re.compile(
    r'^  File ".*[/\\]multiprocessing[/\\]errors[/\\]__init__\.py", .*\n(?:    .*\n)*', re.M
)

#: Fields that are left out where they are empty.
_NEW = (
    *("alone", "reason_host", "reason_detail", "not_brought", "stored", "tracebacks", "unmatched"),
    *("use", "tasks_failed", "warm"),
)

#: The stages of a run, in order.
STAGES = ("connect", "sync", "wait", "setup", "start", "run", "restart", "collect", "store")


@frozen
class HostReceipt:
    """One host's part of a run.

    ``left`` counts processes still alive, None when the host could not be checked; ``logs_here`` and
    ``logs_there`` are bytes; ``unsaved`` is why logs that the host has are not here; ``expiry`` is
    when the host stopped the run on its own; ``departed`` is the host that replaced this one after it
    was lost, "" when the run continued with fewer hosts.
    """

    host: str
    node_rank: int
    ranks: tuple[int, ...]
    gpus: tuple[int, ...]
    gpus_used: tuple[int, ...] | None
    exit_codes: Mapping[str, int | None]
    logs_here: int
    logs_there: int | None
    logs_complete: bool
    left: int | None
    verified: str
    scanned: int = 0
    orphans: int = 0
    problem: str = ""
    unsaved: str = ""
    expiry: Expiry | None = None
    tasks: tuple[str, ...] = ()  # keys of the processes, where the job has roles
    limits: Mapping[str, str] = field(
        default_factory=dict
    )  # by key: which limits were enforced, and how
    departed: str | None = None


class Because(StrEnum):
    """Why a file of the run is not here."""

    OUTSIDE = "outside-outputs"  # written to the workdir, and no output
    KEPT = "kept-on-host"  # the job says so
    MISSING = "not-copied"  # the collection failed or was skipped


@frozen
class NotBrought:
    """Files of the run that a host has and this machine has not. ``path`` is a file, or a folder with a
    slash behind it; empty for files that are not named one by one."""

    host: str
    path: str
    files: int
    bytes: int
    because: Because


@frozen
class StoredOutputs:
    """Outputs in an object store at ``to``. ``missing`` says, by host, what is not there and why;
    ``alone``, what hosts had stored with no launcher in touch."""

    to: str
    files: int
    bytes: int
    whole: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, Alone] = field(default_factory=dict)


@frozen
class Warm:
    """Modules that stay imported on ``hosts`` for the next run, until a moment since the epoch."""

    hosts: tuple[str, ...]
    modules: tuple[str, ...]
    until: float


@frozen
class FirstFailure:
    """The process that failed first, by skew-corrected time, and its last output.

    ``error`` is the message of torch's error file, whose traceback is then in ``last_lines``; empty
    without one. ``cause`` and ``hint`` are empty when no known cause fits.
    """

    host: str
    key: str
    rank: int | None
    exit_code: int
    meaning: str
    time: float
    last_lines: tuple[str, ...] = ()
    cause: str = ""
    hint: str = ""
    error: str = ""


@frozen
class Receipt:
    """How a run ended. ``reason`` is a code, ``reason_host`` the host that it is about, if any, and
    ``reason_detail`` what the code leaves out. ``started`` is in seconds since the epoch.

    ``outputs_failed`` says, by host, what of the outputs did not come and why; ``outputs_complete`` is
    False if anything of them is missing here. ``not_brought`` is all that the hosts still have,
    ``unmatched`` what the job calls outputs and no host has written. ``alone``: ranks that
    were to meet never did.
    ``tracebacks`` are the last lines of processes that exited with 0 all the same, ``tasks_failed`` says
    which tasks of srun failed although their script exited with 0. ``use`` says how busy each host was,
    as far as it was measured. ``warm`` is what outlives the run on purpose."""

    run: str
    status: str
    reason: str
    exit_code: int
    started: float
    seconds: float
    stages: Mapping[str, float]
    world_size: int
    framework: str
    hosts: tuple[HostReceipt, ...] = ()
    failure: FirstFailure | None = None
    others: tuple[OtherEnd, ...] = ()
    others_said: tuple[LastLine, ...] = ()
    tracebacks: tuple[LastLine, ...] = ()
    tasks_failed: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    outputs: Sequence[Mapping[str, Any]] = ()
    outputs_failed: Mapping[str, str] = field(default_factory=dict)
    outputs_complete: bool = True
    not_brought: tuple[NotBrought, ...] = ()
    unmatched: tuple[str, ...] = ()
    alone: bool = False
    stored: StoredOutputs | None = None
    use: Mapping[str, HostUse] = field(default_factory=dict)
    warm: Warm | None = None
    folder: str = ""
    reason_host: str | None = None
    reason_detail: str = ""
    version: int = formats.VERSION

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without empty fields that earlier versions do not know."""
        return {**self._as_json(), "outputs": [dict(one) for one in self.outputs]}

    def to_record(self) -> dict[str, Any]:
        """Return what ``receipt.json`` holds: 0.1 refuses a field that it does not know. ``use`` is in a
        file of its own, since nearly every run has it."""
        value = self._as_json()
        value.pop("use", None)
        if self.outputs_complete:
            del value["outputs_complete"]
        return value

    def _as_json(self) -> dict[str, Any]:
        value = {**asdict(replace(self, outputs=())), "outputs": self.outputs}
        if self.stored is not None and not self.stored.alone:
            del value["stored"]["alone"]
        return {k: v for k, v in value.items() if v or k not in _NEW}

    @property
    def logs_complete(self) -> bool:
        """Whether every byte of the hosts' logs is here."""
        return all(host.logs_complete for host in self.hosts)

    @property
    def left(self) -> int:
        """How many processes are known to be alive."""
        return sum(host.left or 0 for host in self.hosts)


def read(value: object, file: object = "receipt.json") -> Receipt:
    """Return the receipt that :meth:`Receipt.to_json` wrote.

    Raises NewerRecord, or UnreadableRecord naming file and field.
    """
    record = formats.check_version(value, file)
    formats.read_record(_Outputs, record, file)
    return formats.read_record(Receipt, compat.receipt(record), file)


@frozen
class _Output:
    path: str
    size: int
    hosts: tuple[str, ...] = ()


@frozen
class _Outputs:
    """What is asked of the outputs, which a receipt holds as they are."""

    outputs: tuple[_Output, ...] = ()


def worked_alone(events: Iterable[ev.Event], attempt: int) -> bool:
    """Return whether a host is sure that the ranks of an attempt never met."""
    return any(isinstance(event, ev.NobodyMet) and event.attempt == attempt for event in events)


def stays_warm(events: Iterable[ev.Event], modules: Sequence[str]) -> Warm | None:
    """Return where modules stay imported, until the first host ends that; None for nowhere."""
    last = {event.host: event for event in events if isinstance(event, ev.KeptWarm)}
    there = [event for event in last.values() if event.kept]
    if not there:
        return None
    until = min(event.time + event.seconds for event in there)
    return Warm(tuple(event.host for event in there), tuple(modules), until)


def ended_at(events: Sequence[ev.Event], concluded: float) -> float:
    """Return when a run ended: when it was ``concluded``, or when its last process exited, if nobody was
    connected to its hosts at that moment."""
    exits = [event.time for event in events if isinstance(event, ev.ProcessExited)]
    resumed = (event.time for event in events if isinstance(event, ev.ConnectionResumed))
    last = max(exits, default=concluded)
    return last if any(last < time <= concluded for time in resumed) else concluded


def stages(events: Sequence[ev.Event]) -> list[tuple[str, float, float]]:
    """Return the stages of a run in time, ``(stage, begin, end)``; the last one goes on until the last
    event."""
    starts = [(e.stage, e.time) for e in events if isinstance(e, ev.StageStarted)]
    ends = [time for _, time in starts[1:]] + [event.time for event in events[-1:]]
    found = []
    for (stage, begin), end in zip(starts, ends, strict=False):
        last = max(begin, ended_at(events, end)) if stage == "run" else end
        found.append((stage, begin, last))
    return found


def stage_seconds(events: Sequence[ev.Event]) -> dict[str, float]:
    """Return the seconds that each stage took."""
    found: dict[str, float] = {}
    for stage, begin, end in stages(events):
        found[stage] = found.get(stage, 0.0) + end - begin
    return {stage: round(found[stage], 3) for stage in STAGES if stage in found}


def host_receipt(
    host: str,
    layout: Layout,
    state: RunState,
    events: Sequence[ev.Event],
    log_bytes: tuple[int, int | None] | None,
    problem: str = "",
    unsaved: str = "",
) -> HostReceipt:
    """Return one host's part, from the events about it and its log bytes, ``(here, there)``; None
    when nothing was started on the host. While it is open which hosts get the run, none has ranks."""
    node = next((node for node in layout.nodes if node.host.name == host), None)
    its = None if layout.wanted and not state.processes else node
    sweeps = [e for e in events if isinstance(e, ev.HostSwept) and e.host == host]
    orphans = [e.processes for e in events if isinstance(e, ev.OrphansEnded) and e.host == host]
    here, there = log_bytes if log_bytes else (0, None)
    return HostReceipt(
        host=host,
        node_rank=node.node_rank if node else -1,
        ranks=tuple(its.ranks) if its else (),
        gpus=its.gpus if its else (),
        gpus_used=state.gpus_used.get(host),
        exit_codes={p.key: p.code for p in state.processes.values() if p.host == host},
        logs_here=here,
        logs_there=there,
        logs_complete=log_bytes is None or here == there,
        left=len(sweeps[-1].left) if sweeps else (0 if log_bytes is None else None),
        verified=_how(sweeps[-1]) if sweeps else _unverified(log_bytes, problem),
        scanned=sweeps[-1].scanned if sweeps else 0,
        orphans=sum(orphans) + (sweeps[-1].killed if sweeps else 0),
        problem=problem,
        unsaved=unsaved,
        expiry=state.expired.get(host),
        tasks=tuple(task.key for task in its.tasks) if its else (),
        limits={p.key: p.limits for p in state.processes.values() if p.host == host and p.limits},
        departed=state.departed[host].by if host in state.departed else None,
    )


def _how(sweep: ev.HostSwept) -> str:
    others = f", {sweep.unreadable} of other users" if sweep.unreadable else ""
    return f"/proc of {sweep.scanned} processes read after the end{others}"


def _unverified(log_bytes: tuple[int, int | None] | None, problem: str | None) -> str:
    if log_bytes is None:
        return "nothing was started there"
    silent = "does not answer" if problem == EndReason.SUPERVISOR_SILENT else "cannot be reached"
    return f"not verified: the host {silent}"


def first_failure(
    state: RunState,
    last_words: bytes,
    framework: str = "",
    environment: Environment | None = None,
) -> FirstFailure | None:
    """Return the first failure, with the traceback of torch's error file or else the last lines that
    the process printed; None when no process failed. ``environment`` is that of the process."""
    failure = state.failure
    if failure is None:
        return None
    error = {
        name: str(text).encode("utf-8", "replace").decode()  # JSON can hold what UTF-8 cannot
        for name, text in (failure.error or {}).items()
    }
    traceback = _RECORD_FRAME.sub("", error.get("traceback") or error.get("message", ""))
    text = traceback or essence(last_words.decode("utf-8", "replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    tracebacks = [number for number, line in enumerate(lines) if TRACEBACK in line]
    if tracebacks:
        lines = lines[tracebacks[0 if len(lines) - tracebacks[0] <= LAST_LINES else -1] :]
    outputs = (traceback.encode(), last_words) if traceback else (last_words,)
    memory = "role" if failure.limit else "host" if failure.oom else ""
    left = any(p.well and not p.stopped and p.rank is not None for p in state.processes.values())
    about = (failure.code, memory, framework, left, environment)
    fitting = (causes.find(output, *about) for output in outputs)
    found = next(filter(None, fitting), None)
    return FirstFailure(
        host=failure.host,
        key=failure.key,
        rank=failure.rank,
        exit_code=failure.exit_code,
        meaning=failure.meaning,
        time=failure.time,
        last_lines=tuple(headline(lines, LAST_LINES)),
        cause=found.says if found else "",
        hint=found.hint if found else "",
        error=error.get("message", ""),
    )
