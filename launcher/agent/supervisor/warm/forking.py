"""Keeps a Python on this host that has imported modules already, and has it fork ranks.

Such a rank is a child of the supervisor like any other, in every respect that a script or its user could
notice. Where that is not certain, it is started by itself. See docs/decisions/0067-warm-ranks.md.
"""

from __future__ import annotations

import os
import select
import time

from ...base import plain_files
from ...base.lean import Socket, signal, socket
from ...processes import processes
from . import command, rules
from . import fork as warm_fork
from .asked import Asked, asked_of, note
from .fork import Cold, Rank, answer_on, fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...processes.limits import Held

#: Seconds to import everything.
IMPORTS = 120.0
#: What the imports print.
PRINTED, COMPLAINTS = "preload.out", "preload.err"


class Warm:
    """One helper at a time. ``record`` writes an event into the journal.

    It serves an attempt, and the next one with the same helper if nothing has changed by then. With a
    ``place``, a folder of its own, other runs may follow: then it knows nothing of the run.
    """

    def __init__(self, record: Callable[..., None], place: str = "") -> None:
        self.place = place
        self._run: rules.OfRun | None = None  # whom it serves, where it is kept
        self._secrets: frozenset[str] = frozenset()
        self._record = record
        self._pid: int | None = None
        self._killed: set[int] = set()  # helpers that have not exited yet
        self._line: Socket | None = None
        self._asked: Asked | None = None
        self._began = 0.0
        self.imported = 0.0  # when the helper began to import: time.time()
        self._ready = self._checks = self._reported = self._has_failed = False
        self._lost: tuple[str, str] | None = None  # why there is none any more that was ready
        self.serve(record)

    def serve(self, record: Callable[..., None]) -> None:
        """Serve another attempt, whose supervisor has a journal of its own."""
        self._record = record
        self.was_asked = False  # for modules, in this attempt
        self._told: set[tuple[str, str]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether there is a helper that has imported everything."""
        return self._ready and self._pid is not None

    @property
    def is_kept(self) -> bool:
        """Whether there is a helper for the next attempt, or something to say about its end."""
        return self._ready or self._lost is not None

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The socket to read from, while modules are imported."""
        return [self._line] if self._line and not self._ready else []

    @property
    def next_look(self) -> float:
        """The moment by which to :meth:`look`."""
        waits = self._line is not None and not self._ready
        return (
            self._began + (warm_fork.ANSWERS if self._checks else IMPORTS)
            if waits
            else float("inf")
        )

    @property
    def pids(self) -> set[int]:
        """The helper, and what its imports have started."""
        own = self._killed if self._pid is None else {self._pid, *self._killed}
        return own.union(*map(processes.descendants, own))

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the helper."""
        if pid in self._killed:
            self._killed.discard(pid)
            return True
        if pid != self._pid:
            return False
        self._pid = None
        if self.readable and select.select(self.readable, [], [], 0)[0]:
            self.heard()  # its last words
        if self._pid is not None:
            return True  # by which a new one was started
        why = ("exited", self._complaint())
        if self._checks:
            self._import_anew(*why)
            return True
        if not self._reported:
            self._report(*why)
        elif self._ready:
            self._lost = why
        self._hang_up()
        return True

    def look(self, now: float) -> None:
        """Give up imports that take too long."""
        if now < self.next_look:
            return
        if self._checks:
            self._import_anew("no-answer", "")
        else:
            self._report("too-slow", "%d" % IMPORTS)
            self.close()

    def heard(self) -> None:
        """Read whether everything was imported, or can still be used."""
        assert self._line is not None
        try:
            answer = self._line.recv(1 << 12)
        except OSError:
            answer = b""
        if answer == b"r":
            self._ready = True
            self._report()
        elif answer[:1] == b"f":
            code, _, detail = answer[1:].decode("utf-8", "replace").partition(" ")
            if self._checks:
                self._import_anew(code, detail)
            else:
                self._report(code, detail)
                self.close()
        else:  # it exits: reaped() says so
            self._hang_up()

    def close(self) -> None:
        """Kill the helper and what its imports have started. Ranks live on."""
        processes.send(self.pids, signal.SIGKILL)
        self._reported = True
        self._lost = None
        self._hang_up()

    # -- between two runs

    def say(self, text: str) -> None:
        """Have ps(1) show what the helper is there for."""
        if self._line:
            try:
                self._line.send(b"n" + os.fsencode(note(text)))
            except OSError:
                pass  # it is gone, as the next look at it tells

    def state(self) -> tuple[int, int, Asked]:
        """Return what another program needs that this process becomes: see :meth:`resumed`."""
        assert self._pid is not None
        assert self._line is not None
        assert self._asked is not None
        return self._pid, self._line.fileno(), self._asked

    @classmethod
    def resumed(cls, place: str, pid: int, line: int, asked: Asked, imported: float) -> Warm:
        """Return one whose helper is there and has imported everything."""
        warm = cls(lambda *_, **__: None, place)
        warm._pid, warm._line, warm._asked = pid, Socket(fileno=line), asked
        warm._ready = warm._reported = True
        warm.imported = imported
        return warm

    @property
    def asked(self) -> Asked | None:
        """What was asked of the helper."""
        return self._asked

    def changed(self) -> str | None:
        """Return why the helper, which is idle, can be used no more; None where it can."""
        assert self._line is not None
        try:
            self._line.send(b"?")
        except OSError:
            return "exited"
        answer = answer_on(self._line)
        return None if answer == b"r" else answer[1:].decode("utf-8", "replace") or "no-answer"

    def _hang_up(self) -> None:
        if self._line:
            self._line.close()
        self._line, self._ready = None, False

    def _report(self, code: str = "", detail: str = "") -> None:
        self._reported, self._has_failed = True, bool(code)
        seconds = round(time.monotonic() - self._began, 3)
        kept = {"kept": True} if self._checks else {}
        self._checks = False
        self._record(
            "Preloaded", seconds=seconds, problem=code or None, detail=detail[:500], **kept
        )

    def _complaint(self) -> str:
        try:
            path = os.path.join(self.place, COMPLAINTS)
            text = plain_files.content(path).decode("utf-8", "replace")
        except OSError:
            return ""
        return (text.strip().splitlines() or [""])[-1]

    # -- the helper

    def begin(
        self,
        modules: Sequence[str],
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        stacks: bool,
        secrets: Iterable[str] = (),
    ) -> None:
        """Have the helper of the attempt or run before checked, if there is one; else start one.

        ``argv`` and ``env`` are those of any rank, and ``secrets`` the names of variables that are
        some; what differs between ranks does not matter. With ``stacks``, ranks have the folder of our
        sitecustomize on their path anyway.
        """
        self._secrets = frozenset(secrets)
        self._run = self._of_run(env)
        before, now = self._asked, asked_of(modules, argv, env, cwd, stacks, self._run)
        self._asked = now
        self.was_asked, self._began = True, time.monotonic()
        self._reported = self._has_failed = False
        if before is None or (self._line is None and self._lost is None):
            self._import()
            return
        why = self._lost or before.unlike(now, None) or self._is_prepared_otherwise()
        why = why or self._ask_to_check()
        if why:
            self._import_anew(*why)

    def _of_run(self, env: dict[str, str]) -> rules.OfRun | None:
        return rules.OfRun(env, self._secrets, self.place) if self.place else None

    def _is_prepared_otherwise(self) -> tuple[str, str] | None:
        """Return what bash makes otherwise of the environment than when an earlier run imported, as
        where a module file was changed."""
        assert self._asked is not None
        known = rules.command(self._asked.argv)
        if not self.place or self._pid is None or known is None or not known[0]:
            return None
        try:
            os.makedirs(self._asked.cwd, exist_ok=True)
            now = command.prepared([*known[0], known[1][0]], self._asked.env, self._asked.cwd)
            with open("/proc/%d/environ" % self._pid, "rb") as file:
                before = command.variables(file.read())
        except OSError:
            return "no-answer", ""
        name = rules.prepared_otherwise(before, now, command.INSIDE)
        return ("other-variable", name) if name else None

    def _ask_to_check(self) -> tuple[str, str] | None:
        assert self._line is not None
        self._ready, self._checks = False, True
        try:
            self._line.send(b"?")
        except OSError:
            return "exited", self._complaint()
        return None

    def _import_anew(self, code: str, detail: str) -> None:
        """Import with another helper, as nothing of the last one can be used."""
        self._record("ImportedAnew", why=code, detail=detail[:500])
        processes.send(self.pids, signal.SIGKILL)
        if self._pid is not None:
            self._killed.add(self._pid)
            self._pid = None
        self._lost, self._checks = None, False
        self._hang_up()
        self._began = time.monotonic()
        self._import()

    def _import(self) -> None:
        """Start a helper, which imports."""
        assert self._asked is not None
        self.imported = time.time()
        asked, env, cwd = self._asked, self._asked.env, self._asked.cwd
        paths = env.get("PYTHONPATH", "").split(os.pathsep) if env.get("PYTHONPATH") else []
        if rules.command(asked.argv) is None:
            self._report("other-command", "")
            return
        if not all(map(os.path.isabs, paths)):
            self._report("relative-path", "")
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        try:
            if self.place and os.path.islink(cwd):
                os.unlink(cwd)
            os.makedirs(cwd, exist_ok=True)  # empty, while the code is being copied
            for path in (PRINTED, COMPLAINTS):
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
                streams.append(os.open(os.path.join(self.place, path), flags, 0o600))
            launch = processes.Launch(command.command(asked, bool(self.place)), env, cwd)
            self._pid = processes.start_with(launch, [*streams, theirs.fileno()])
            self._line = Socket(fileno=ours.detach())
        except OSError as error:
            self._report("not-started", str(error.strerror))
            ours.close()
        finally:
            theirs.close()
            for fd in streams:
                os.close(fd)

    # -- a rank

    def start(
        self, launch: processes.Launch, held: Held | None, stdout: str, stderr: str
    ) -> int | None:
        """Fork a rank and return its pid; None where it has to start by itself, which is recorded."""
        if self._has_failed or self._asked is None or not self.was_asked:
            return None
        try:
            if self._line is None or not self._ready:
                raise Cold("exited")
            asked = self._asked
            run = self._of_run(launch.env)
            found = rules.hindrance(asked.argv, asked.env, launch.argv, launch.env, held, run)
            if found:
                raise Cold(*found)
            rank = Rank(launch, held, run)
            return fork(self._line, rank, self.place, stdout, stderr)
        except Cold as why:
            if why.is_final:
                self.close()
            if (why.code, why.detail) not in self._told:
                self._told.add((why.code, why.detail))
                self._record("StartedCold", why=why.code, detail=why.detail[:500])
        return None
