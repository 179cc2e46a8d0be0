"""A relay's line to the supervisor of the run that it follows, and questions to any supervisor."""

from __future__ import annotations

import os
import time

from ..base import protocol, run_lock
from ..base.lean import Socket, socket
from ..base.protocol import Refused
from ..host import run_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..base.messages import Message, StartRequest
    from .follow import Follow

#: Seconds for a supervisor to answer.
PATIENCE = 15.0
#: Seconds between two reports that it still takes time.
PAUSE = 5.0
#: What a relay asks of a supervisor first, and again and again.
SUBSCRIBE = {"op": "subscribe", "version": protocol.VERSION}


class SupervisorLine:
    """A subscription to the journal of a run, while its supervisor lives; between two attempts, what
    has the supervisor stay for the next one."""

    def __init__(self) -> None:
        self._supervisor: Socket | None = None  # subscribed
        self._staying: Socket | None = None  # as long as this relay lives
        self._asked: float | None = None  # since when the supervisor owes an answer
        self._follow: Follow | None = None

    @property
    def readable(self) -> list[Socket]:
        """The sockets to read from."""
        return [one for one in (self._supervisor, self._staying) if one]

    def heard(self, ready: list[int | Socket]) -> None:
        """Read from those that are ready."""
        if self._supervisor and self._supervisor in ready:
            self._hear(self._supervisor)
        if self._staying and self._staying in ready:
            self.let_go()

    def subscribe(self, follow: Follow) -> None:
        """Have ``follow`` look whenever the journal of its run has news. Raises Refused if another
        version of launcher supervises that."""
        self._follow = follow
        try:
            self._supervisor = connect(follow.run_dir)
            self._asked = time.monotonic()
            self._supervisor.sendall(protocol.encode(SUBSCRIBE))
            _agree(self._supervisor.recv(1 << 12))
            self._asked = None
        except socket.timeout:
            pass  # it hangs: the files can be read all the same
        except OSError:
            self._gone(follow)

    def contact(self) -> float:
        """Tell the supervisor that the launcher is alive; return for how many seconds it owes an answer.

        To subscribe again counts as contact, and is answered by supervisors of every version.
        """
        if self._supervisor and self._asked is None:
            self._asked = time.monotonic()
            try:
                self._supervisor.sendall(protocol.encode(SUBSCRIBE))
            except OSError:
                pass  # the next read notices that it is gone
        if self._staying:
            _hold(self._staying)
        owes = self._supervisor and self._asked is not None
        return time.monotonic() - self._asked if owes else 0.0  # type: ignore[operator]

    def have_stay(self, run_dir: str) -> None:
        """Hold a line to the supervisor of an attempt that is over, if it stays for the next one."""
        self.let_go()
        if run_lock.is_alive(run_dir):
            try:
                self._staying = connect(run_dir)
            except OSError:  # it does not stay, and exits
                return
            _hold(self._staying)

    def let_go(self) -> None:
        """Let a supervisor that stays exit."""
        if self._staying:
            self._staying.close()
            self._staying = None

    def _hear(self, supervisor: Socket) -> None:
        try:
            heard = supervisor.recv(1 << 16)
        except OSError:
            heard = b""
        self._asked = None
        if self._follow and heard:
            self._follow.eager()
        elif self._follow:
            self._gone(self._follow)

    def _gone(self, follow: Follow) -> None:
        if self._supervisor:
            self._supervisor.close()
        self._supervisor = None
        run_folders.end_strays_of(follow.run_dir)
        self.have_stay(follow.run_dir)
        follow.ended = True
        follow.eager()


def connect(run_dir: str) -> Socket:
    """Return a connection to the supervisor of a run, and be in its folder. Raises OSError."""
    connection = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        os.chdir(run_dir)  # the path of a socket has at most 107 bytes
        connection.connect("sock")
    except OSError:
        connection.close()
        raise
    return connection


def ask(
    run_dir: str, request: Message | StartRequest, going_on: Callable[[], None], more: float = 0.0
) -> Message:
    """Ask the supervisor of a run, and call ``going_on`` meanwhile.

    Raises OSError when there is none; Refused when it refuses, or does not answer in ``more`` than
    PATIENCE seconds.
    """
    with connect(run_dir) as connection:
        connection.sendall(protocol.encode(request))
        decoder, deadline = protocol.Decoder(), time.monotonic() + PATIENCE + more
        connection.settimeout(min(PAUSE, PATIENCE + more))
        while True:
            try:
                data = connection.recv(1 << 16)
            except socket.timeout:
                if time.monotonic() >= deadline:
                    raise Refused("silent", "the supervisor does not answer")
                going_on()
                continue
            if not data:
                raise OSError("the supervisor exited")
            for answer, _ in decoder.feed(data):
                if "error" in answer:
                    error = dict(answer.pop("error"), **answer)
                    raise Refused(error.pop("code"), error.pop("message"), **error)
                ok: Message = answer["ok"]
                return ok


def _hold(line: Socket) -> None:
    try:
        line.sendall(protocol.encode({"op": "stay"}))
    except OSError:
        pass  # the next read notices that it is gone


def _agree(data: bytes) -> None:
    """Raise Refused when the supervisor that sent this answer is of another version."""
    for answer, _ in protocol.Decoder(forgiving=True).feed(data):
        if "error" in answer:
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        if "ok" in answer:
            theirs = answer["ok"].get("version")
            other = protocol.other_version(theirs, "the supervisor of the run")
            if other:
                raise Refused(protocol.OTHER_VERSION, other)
