"""The errors that launcher reports: what failed, on which host, and what to do next.

::

    LauncherError
    ├── InputError              what the user wrote cannot be used            exit 2
    │   ├── DocumentError       a YAML file: carries file and line
    │   │   └── Unbounded       nested too deep, endless, or far too large
    │   ├── UnknownRun          no run of that name is recorded here
    │   └── PlanError           the job does not fit on the hosts
    │       └── GpusInUse       it would, if GPUs in use were free            exit 75
    ├── HostError               something about one host; carries its name    exit 125
    │   ├── ConnectError        no usable SSH connection
    │   │   ├── Unreachable     no answer to a TCP connection
    │   │   ├── Refused         the port is closed
    │   │   ├── NoBanner        the port is open, but no SSH server answers (frozen)
    │   │   ├── UnknownHostKey, HostKeyMismatch
    │   │   ├── AuthenticationFailed
    │   │   └── ConnectionLost  the connection dropped
    │   │       └── Silent      the connection is up, but the agent does not answer
    │   ├── AgentError          the agent cannot run there
    │   │   ├── BadAnswer       the host sent what no agent sends
    │   │   ├── NoPython, PythonTooOld
    │   │   └── NoRsync
    │   ├── DiskFull, ReadOnly
    │   ├── UnsafeFolder        other users could change a folder of ours there
    │   ├── NoEnvironment       the job's environment is not there, or cannot be activated
    │   ├── FrameworkMissing    the host's Python lacks a module of the job's framework
    │   ├── SyncError, StartError, PortTaken
    │   │   ├── SourceChanged   files of a data set changed while they were copied
    │   │   └── Vanished        files were deleted while they were copied
    │   ├── GpuBusy             a GPU was taken before the start              exit 75
    │   └── SetupFailed         the job's setup failed
    ├── ImageNotBuilt       the job's image cannot be built                   exit 125
    ├── WheelsNotFetched    wheels cannot be fetched to this machine          exit 125
    ├── CheckFailed             a run on these hosts would fail               exit 125
    ├── MeetingError            hosts that cannot reach the master            exit 125
    ├── StoreError              an object store refuses, or does not answer   exit 125
    ├── LauncherDied            the launcher of a run died before everything was started
    ├── RunKept                 a run cannot be deleted from all its hosts    exit 1
    ├── Stalled                 no rank made progress, with --on-stall stop   exit 125
    ├── FunctionFailed          a function did not return on every rank       exit 1
    ├── RecordError             this machine cannot hold the run's files      exit 125
    └── UnreadableRecord        a file of a run is damaged; names file, field exit 125
        └── NewerRecord         a later major version has written it
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

#: What to do about a host on which something hangs.
HANGS = "is a disk or a network file system hanging on the host? check df and nvidia-smi there"


class LauncherError(Exception):
    """Base of all. ``hint`` says what to do next; the command exits with ``exit_code``."""

    exit_code = 125
    code = "launcher-error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors be pickled and copied, as between processes of a pool: ``args`` are the message
        alone, and no constructor is called with them."""
        return _made_again, (type(self), self.args), dict(self.__dict__)


def _made_again(kind: type[LauncherError], args: tuple[object, ...]) -> LauncherError:
    return kind.__new__(kind, *args)


class InputError(LauncherError):
    """Something the user wrote cannot be used."""

    exit_code = 2
    code = "bad-input"


class DocumentError(InputError):
    """A file that cannot be used; ``source`` and ``line`` (from 1) say where."""

    def __init__(self, message: str, hint: str = "", source: str = "", line: int = 0) -> None:
        super().__init__(message, hint)
        self.source = source
        self.line = line

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message}" if self.line else self.message


class Unbounded(DocumentError):
    """YAML that is nested too deep, endless, or far too large to read."""


class UnknownRun(InputError):
    """No run of that name is recorded on this machine."""

    code = "unknown-run"


class PlanError(InputError):
    """The job does not fit on the hosts."""

    code = "does-not-fit"


#: sysexits.h, EX_TEMPFAIL: the same command may succeed later.
BUSY = 75


class GpusInUse(PlanError):
    """The job would fit if GPUs that others use were free."""

    exit_code = BUSY
    code = "gpu-busy"


class HostError(LauncherError):
    """Something about one host."""

    code = "host-error"

    def __init__(self, host: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.host = host

    def __str__(self) -> str:
        return f"{self.host}: {self.message}"


class ConnectError(HostError):
    """No usable SSH connection."""

    code = "no-connection"


class Unreachable(ConnectError):
    """No answer to a TCP connection."""

    code = "unreachable"


class Refused(ConnectError):
    """The host answers that nothing listens on the port."""

    code = "connection-refused"


class NoBanner(ConnectError):
    """The port is open, but no SSH server answers."""

    code = "sshd-frozen"


class UnknownHostKey(ConnectError):
    """known_hosts has no key of this host."""

    code = "unknown-host-key"


class HostKeyMismatch(ConnectError):
    """known_hosts has a different key for this host."""

    code = "host-key-mismatch"


class AuthenticationFailed(ConnectError):
    """The host refused the login."""

    code = "authentication-failed"


class ConnectionLost(ConnectError):
    """An established connection dropped."""

    code = "connection-lost"


class Silent(ConnectionLost):
    """The connection is up, but the agent does not answer: the host is dead, or a disk hangs."""

    code = "agent-silent"


class AgentError(HostError):
    """The agent cannot run on the host, or its answer makes no sense."""

    code = "agent-error"


class BadAnswer(AgentError):
    """The host sent what no agent sends: nothing more of it is believed."""

    code = "bad-answer"

    def __init__(self, host: str, problem: str, hint: str = "") -> None:
        super().__init__(
            host,
            f"it sent what no agent sends: {problem}"[:400],
            hint or "leave the host out with --hosts, and look at who else can write to its files",
        )


class NoPython(AgentError):
    """The interpreter that the inventory names does not exist."""

    code = "no-python"


class PythonTooOld(AgentError):
    """The interpreter is older than the agent needs."""

    code = "python-too-old"


class NoRsync(AgentError):
    """The host has no rsync, or one that is too old."""

    code = "no-rsync"


class DiskFull(HostError):
    """No space is left on the host for launcher's files, or for the job's image."""

    code = "disk-full"


class ReadOnly(HostError):
    """The folder where launcher keeps its files cannot be written."""

    code = "not-writable"


class UnsafeFolder(HostError):
    """Other users could change the folder where launcher keeps its files, and so what it executes."""

    code = "unsafe-folder"


class NoEnvironment(HostError):
    """The job's environment is not on the host, or cannot be activated there."""

    code = "no-environment"


class ImageNotBuilt(LauncherError):
    """The job's image cannot be built of its Dockerfile."""

    code = "image-not-built"


class WheelsNotFetched(LauncherError):
    """The wheels of the job's environment cannot be fetched to this machine."""

    code = "wheels-not-fetched"


class FrameworkMissing(HostError):
    """The host's Python lacks a module that the job's framework cannot start without."""

    code = "framework-missing"


class SyncError(HostError):
    """Files could not be copied."""

    code = "sync-failed"


class Vanished(SyncError):
    """Files were deleted while they were copied; all others have come."""


class SourceChanged(SyncError):
    """Files of a data set arrived with other sums than their source had when it was listed."""

    code = "source-changed"


class StartError(HostError):
    """The agent refused to start processes."""

    code = "start-failed"


class GpuBusy(StartError):
    """Somebody else took a GPU of the plan between planning and the start."""

    exit_code = BUSY
    code = "gpu-busy"


class PortTaken(StartError):
    """Another program took a ``port`` of the run between the rendezvous and the start."""

    code = "port-taken"

    def __init__(self, host: str, message: str, hint: str = "", port: int = 0) -> None:
        super().__init__(host, message, hint)
        self.port = port


class SetupFailed(HostError):
    """The job's ``setup`` exited with ``status`` on a host."""

    code = "setup-failed"

    def __init__(self, host: str, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(host, message, hint)
        self.exit_code = status


class CheckFailed(LauncherError):
    """A run on these hosts would fail; the message names the finding's code."""

    code = "check-failed"


class MeetingError(LauncherError):
    """Hosts that cannot reach the master; the message names both ends of every pair."""

    code = "no-meeting-point"


class StoreError(LauncherError):
    """An object store or a web server refuses a request, or does not answer. No message has a
    credential, or a URL that is signed."""

    code = "store-error"


class LauncherDied(LauncherError):
    """The launcher of a run died before it had started everything. ``begun``: hosts may have begun."""

    code = "launcher-died"

    def __init__(self, begun: bool = True) -> None:
        self.begun = begun
        if begun:
            super().__init__(
                "its launcher died before it had started all processes",
                "start it again with launcher rerun",
            )
        else:
            super().__init__(
                "its launcher died before it got to the start: nothing was started",
                "start it again, as you did",
            )


class RunKept(LauncherError):
    """A run was not deleted, because hosts are unreachable; ``errors`` has one for each."""

    exit_code = 1
    code = "run-kept"

    def __init__(self, run: str, errors: Sequence[HostError]) -> None:
        super().__init__(
            f"{run} was not deleted",
            f"launcher rm --force {run} deletes it here and leaves its files on those hosts",
        )
        self.errors = tuple(errors)


class Stalled(LauncherError):
    """No rank made progress for too long; ``behind`` says which one the others wait for."""

    code = "stalled"

    def __init__(self, seconds: float, behind: str) -> None:
        super().__init__(
            f"no progress for {seconds:.0f} s: no output and no CPU use on any rank; {behind}",
            "see the stacks of all ranks in outputs/stalls; "
            "with --on-stall report the run continues",
        )


class FunctionFailed(LauncherError):
    """A function did not return on every rank of its run, whose name is ``run``.

    ``rank`` and ``host`` are those that failed first, and ``traceback`` is the text of theirs; they are
    None and empty where no rank is to blame.
    """

    exit_code = 1
    code = "function-failed"

    def __init__(self, run: str, message: str, hint: str = "") -> None:
        super().__init__(f"{message} (run {run})", hint)
        self.run = run
        self.rank: int | None = None
        self.host: str | None = None
        self.traceback = ""


class RecordError(LauncherError):
    """This machine cannot hold the files of a run."""

    code = "no-room-here"

    def __init__(self, file: object, error: OSError) -> None:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = (
            "free some space there, or set LAUNCHER_HOME to a folder with room"
            if is_full
            else "make it writable, or name another folder: LAUNCHER_HOME is that of launcher's files"
        )
        super().__init__(f"cannot write {file} on this machine: {error.strerror}", hint)


class UnreadableRecord(LauncherError):
    """A file of a run is damaged."""

    code = "unreadable-record"

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(
            f"{file} is damaged: {problem}",
            "repair the file, or delete the run with launcher rm",
        )


class NewerRecord(UnreadableRecord):
    """A file of a run was written by a later version, in a format that this one does not know."""

    code = "newer-record"

    def __init__(self, file: str, writer: str, reader: str) -> None:
        super().__init__(file, "")
        self.message = f"{file} was written by launcher {writer}; this is {reader}"
        self.hint = "upgrade launcher on this machine, then try again"


def in_words(error: Exception | None) -> str:
    """Return an error as text, or "" for None."""
    if error is None or isinstance(error, LauncherError):
        return str(error or "")
    return f"internal error: {type(error).__name__}: {error}"


#: A word is close to another if so few characters of both differ, if so much of both is alike, or if
#: it is one of its parts, as "nodes" of "num_nodes".
FEW_DIFFER, MOSTLY_ALIKE = 2, 0.8
#: Letters of a word's beginning that stand for it.
FEWEST = 3


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return ``did you mean "x"?`` for the closest known word, or "" if none is close.

    Leading dashes make no two words alike.
    """
    from difflib import SequenceMatcher

    def alike(other: str) -> tuple[float, int]:
        ours, theirs = word.lstrip("-"), other.lstrip("-")
        ratio = SequenceMatcher(None, theirs, ours).ratio()
        return ratio, round((1 - ratio) * (len(ours) + len(theirs)))

    best = max(known, key=lambda other: alike(other)[0], default="")
    ratio, differing = alike(best)
    is_part = word.lstrip("-") in best.replace("-", "_").split("_")
    begins = len(word) >= FEWEST and best.startswith(word)
    is_close = ratio >= MOSTLY_ALIKE or differing <= FEW_DIFFER or is_part or begins
    is_close = ratio > 0 and is_close
    return f'did you mean "{best}"?' if is_close else ""
