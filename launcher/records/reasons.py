"""Why a run was stopped and why it ended, as codes. The CLI makes sentences of them. Pure.

Codes are stable: records and receipts hold them, and hosts send them to each other. The host that a
reason is about, if any, is always a field of its own.
"""

from __future__ import annotations

import re
from enum import StrEnum

from ..spec.frozen import frozen


class StopReason(StrEnum):
    """Why processes were asked to stop. ``agent/base/protocol.py`` names the codes that hosts use."""

    BY_USER = "by-user"
    KILLED_BY_USER = "killed-by-user"  # asked twice
    TRIAL_OVER = "trial-over"
    PROCESS_FAILED = "process-failed"
    PRIMARY_FINISHED = "primary-finished"
    GROUP_FINISHED = "group-finished"  # torchrun on the head node exited with 0
    TOO_FEW_HOSTS = "too-few-hosts"
    RESTARTING = "restarting"  # the detail is the reason of the restart
    SOURCE_CHANGED = "source-changed"
    STALLED = "stalled"
    ORPHAN_TIMEOUT = "orphan-timeout"  # no launcher contacted the host for that long
    TIME_LIMIT = "time-limit"  # it ran for as long as its user allowed
    PREEMPTED = "preempted"  # it gave GPUs back that its project had borrowed
    WAIT_OVER = "wait-over"  # it waited for GPUs for as long as its user allowed
    HOSTS_PARTED = "hosts-parted"  # its hosts began without a launcher, and one was out of reach
    NOT_NEEDED = "not-needed"  # the run began on others of its hosts
    LOGIN_SESSION_ENDED = "login-session-ended"
    SUPERVISOR_TERMINATED = "supervisor-terminated"
    LAUNCHER_FAILED = "launcher-failed"  # the error is in the receipt
    HOST_GIVEN_UP = "host-given-up"  # the run ended while the host was unreachable
    SPARE_UNFIT = "spare-unfit"
    SPARE_LEFT_OVER = "spare-left-over"  # its launcher died before the spare took part
    OTHER = "other"  # the detail is the code that another version wrote


class PassedOver(StrEnum):
    """Why a run did not take GPUs of its hosts, or took them last."""

    ENVIRONMENT = "environment"  # a variable of the inventory or of the login leaves them out
    HELD = "held"  # other runs hold them
    FOREIGN = "foreign"  # somebody works on them outside launcher
    SHARED = "shared"  # as foreign, and taken all the same: no others were free


class Cold(StrEnum):
    """Why a host does not fork a rank from a Python that has imported modules already."""

    #: Of the whole host: nothing is imported ahead there.
    IMPORT_FAILED = "import-failed"
    EXITED = "exited"
    TOO_SLOW = "too-slow"
    NOT_STARTED = "not-started"
    THREADS = "threads"
    GPU_IN_USE = "gpu-in-use"
    RELATIVE_PATH = "relative-path"
    PREPARE = "prepare"
    #: Of one rank.
    OTHER_COMMAND = "other-command"
    OTHER_VARIABLE = "other-variable"
    READ_ALREADY = "read-already"
    PREPARED = "prepared"
    CORES = "cores"
    HIDES_MODULE = "hides-module"
    SETS_VARIABLE = "sets-variable"
    TOO_LARGE = "too-large"
    FORK_FAILED = "fork-failed"
    NO_ANSWER = "no-answer"
    #: Of what an attempt or a run before has imported.
    GONE = "gone"
    FILE_CHANGED = "file-changed"
    OTHER_MODULES = "other-modules"
    OTHER_LOGIN = "other-login"
    OTHER_AGENT = "other-agent"


class NotKept(StrEnum):
    """Why what a host has imported does not stay there for the next run, though it was to."""

    SCOPE = "scope"  # it would have to leave the run's scope of systemd, which it cannot
    NO_PLACE = (
        "no-place"  # what it needs in launcher's folder cannot be made there; the detail says why
    )
    TOO_OLD = "too-old"  # it was imported more than a day ago
    ALONE = "alone"  # the host has begun the run without a launcher


class Over(StrEnum):
    """How a rank hangs whose script is over. ``agent/supervisor/stacks.py`` names the same codes."""

    AT_END = "at-end"  # as Python ends
    WITH_GLOO = "with-gloo"  # there, while torch's gloo has threads
    FOR_THREADS = "for-threads"  # it waits for threads of its script
    GLOO_WAITS = (
        "gloo-waits"  # not over, as a rule in its last line: Python and gloo wait for each other
    )


class ShareTrouble(StrEnum):
    """What went wrong with a shared folder of a run. ``agent/mesh/sharing.py`` names the same codes."""

    CONFLICT = "conflict"  # two hosts wrote the same path at once
    NO_ROOM = "no-room"  # a host's disk is full
    CANNOT_WRITE = "cannot-write"  # a host could not make a change; the detail says why


class WaitReason(StrEnum):
    """Why a run waits for its turn. ``agent/supervisor/turns.py`` names the same codes."""

    HOSTS_MISSING = "hosts-missing"  # fewer of its hosts are in sight than it needs
    TOO_LARGE = "too-large"  # it asks for more than its hosts have
    BUSY = "busy"  # its GPUs are in use
    BEHIND = "behind"  # they are free, and kept for a run whose turn is earlier
    QUOTA = "quota"  # beyond the quota of its project, and not preemptible
    LIMIT = "limit"  # its project has as many GPUs as it may have
    NO_MAJORITY = "no-majority"  # too few hosts answer to say what its project has
    TAKING_BACK = "taking-back"  # runs that have borrowed its GPUs give them back
    NO_LEADER = "no-leader"  # too few of its hosts are in touch with each other
    MAY_HAVE_BEGUN = "may-have-begun"  # on hosts that are out of reach
    NO_ROOM = "no-room"  # a host's disk is too full to write down that it begins
    NOT_YET = "not-yet"  # it is to begin later, and takes no place in the queue before


class EndReason(StrEnum):
    """Why a run ended that was not stopped: the reason in its receipt."""

    ALL_EXITED_0 = "all-ranks-exited-0"
    PRIMARY_EXITED_0 = "primary-exited-0"
    FINISHED_ON = "finished-on"  # finished-on-2-of-3-hosts
    EXIT = "exit"  # exit-7
    SIGNAL = "signal"  # signal-SIGSEGV
    OUT_OF_MEMORY = "out-of-memory"
    SETUP_EXIT = "setup-exit"  # setup-exit-3
    SETUP_SIGNAL = "setup-signal"  # setup-signal-SIGKILL
    SETUP_OUT_OF_MEMORY = "setup-out-of-memory"
    HOST_UNREACHABLE = "host-unreachable"
    SUPERVISOR_SILENT = "supervisor-silent"
    SUPERVISOR_DIED = "supervisor-died"
    INTERNAL_ERROR = "internal-error"
    # Codes of errors: see launcher.spec.errors.
    AGENT_ERROR = "agent-error"
    AGENT_SILENT = "agent-silent"
    BAD_ANSWER = "bad-answer"
    AUTHENTICATION_FAILED = "authentication-failed"
    BAD_INPUT = "bad-input"
    CHECK_FAILED = "check-failed"
    CONNECTION_LOST = "connection-lost"
    CONNECTION_REFUSED = "connection-refused"
    DISK_FULL = "disk-full"
    DOES_NOT_FIT = "does-not-fit"
    FRAMEWORK_MISSING = "framework-missing"
    GPU_BUSY = "gpu-busy"
    HOST_ERROR = "host-error"
    HOST_KEY_MISMATCH = "host-key-mismatch"
    IMAGE_NOT_BUILT = "image-not-built"
    LAUNCHER_DIED = "launcher-died"
    LAUNCHER_ERROR = "launcher-error"
    NO_CONNECTION = "no-connection"
    NO_ENVIRONMENT = "no-environment"
    NO_MEETING_POINT = "no-meeting-point"
    NO_PYTHON = "no-python"
    NO_ROOM_HERE = "no-room-here"
    NO_RSYNC = "no-rsync"
    NOT_WRITABLE = "not-writable"
    PORT_TAKEN = "port-taken"
    PYTHON_TOO_OLD = "python-too-old"
    SETUP_FAILED = "setup-failed"
    SSHD_FROZEN = "sshd-frozen"
    SOURCE_CHANGED = "source-changed"
    STALLED = "stalled"
    START_FAILED = "start-failed"
    STORE_ERROR = "store-error"
    SYNC_FAILED = "sync-failed"
    UNKNOWN_HOST_KEY = "unknown-host-key"
    UNKNOWN_RUN = "unknown-run"
    UNREACHABLE = "unreachable"
    UNSAFE_FOLDER = "unsafe-folder"
    UNREADABLE_RECORD = "unreadable-record"
    NEWER_RECORD = "newer-record"
    WHEELS_NOT_FETCHED = "wheels-not-fetched"


_CODES: dict[str, EndReason | StopReason] = {
    code.value: code for codes in (StopReason, EndReason) for code in codes
}
#: Codes that are written together with their detail, longer ones before their endings.
WITH_DETAIL = (
    EndReason.FINISHED_ON,
    EndReason.SETUP_EXIT,
    EndReason.SETUP_SIGNAL,
    EndReason.EXIT,
    EndReason.SIGNAL,
)
_DETAILED = re.compile(
    rf"({'|'.join(WITH_DETAIL)})-(\d+|\d+-of-\d+-hosts|SIG[A-Z0-9]+|signal \d+)\Z"
)
#: The code of the same exit when the job's ``setup`` failed.
OF_SETUP = {
    EndReason.EXIT: EndReason.SETUP_EXIT,
    EndReason.SIGNAL: EndReason.SETUP_SIGNAL,
    EndReason.OUT_OF_MEMORY: EndReason.SETUP_OUT_OF_MEMORY,
}
#: Reasons of a run whose ``setup`` failed.
SETUP = (*OF_SETUP.values(), EndReason.SETUP_FAILED)


@frozen
class Reason:
    """A code and its detail. A run that was stopped has the reason of the stop."""

    code: EndReason | StopReason
    detail: str = ""

    def __str__(self) -> str:
        """Return the reason as records and receipts hold it: ``exit-7``, ``by-user``."""
        with_detail = self.detail and self.code in WITH_DETAIL
        return f"{self.code}-{self.detail}" if with_detail else str(self.code)

    @classmethod
    def parse(cls, text: str) -> Reason:
        """Return the reason written as ``text``; an unknown one becomes the detail of OTHER."""
        if (code := _CODES.get(text)) is not None:
            return cls(code)
        if found := _DETAILED.match(text):
            return cls(EndReason(found[1]), found[2])
        return cls(StopReason.OTHER, text)
