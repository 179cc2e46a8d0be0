"""Has a Python that has imported modules fork a rank."""

from __future__ import annotations

import os
import select
import sys
import time

from ...base.lean import Socket, socket
from ...processes import processes
from . import places, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...processes.limits import Held

#: Seconds for an answer about one rank.
ANSWERS = 10.0


class Cold(Exception):
    """A rank cannot be forked; ``code`` and ``detail`` say why. ``is_final``: nor can any other."""

    def __init__(self, code: str, detail: str = "", is_final: bool = False) -> None:
        super().__init__(code)
        self.code, self.detail, self.is_final = code, detail, is_final


class Rank:
    """A rank to fork. ``question`` is for the helper: see ``parts`` in inside/preload.py. It has no
    value of a variable and no argument, as what the helper has read would be in the memory of later
    ranks: these are the fork's ``own``."""

    def __init__(
        self, launch: processes.Launch, held: Held | None, run: rules.OfRun | None
    ) -> None:
        self.cwd = launch.cwd
        known = rules.command(launch.argv)
        variables = rules.own(launch.env, run)
        question = [("D", launch.cwd)]
        question += [("N", name) for name in variables]
        question += [("F", name) for name in sorted(rules.FREE)]
        own = [("D", launch.cwd), ("P", "%d" % os.getpid())]
        own += [("A", word) for word in (known[2] if known else [])]
        own += [("S", "%s=%s" % item) for item in variables.items()]
        own += [("W", run.place), ("I", run.run_dir)] if run else []
        if held and held.get("group"):
            own += [("G", held["group"]), ("L", "1" if held.get("by_group") else "0")]
        self.question, whole = _encoded(question), _encoded(own)
        self.own = len(whole).to_bytes(4, "big") + whole


def _lead(link: str, folder: str) -> None:
    """Have a path lead to the code of a run: the one in which the helper was started."""
    if os.path.islink(link):
        if os.readlink(link) == folder:
            return
        os.unlink(link)
    elif os.path.isdir(link):  # what prepares a rank may write there
        os.rename(link, "%s.%d" % (link, time.monotonic_ns()))
    os.symlink(folder, link)


def _encoded(found: list[tuple[str, str]]) -> bytes:
    if any("\0" in text for _, text in found):
        raise Cold("too-large")
    return b"".join(kind.encode() + os.fsencode(text) + b"\0" for kind, text in found)


def fork(line: Socket, rank: Rank, place: str, stdout: str, stderr: str) -> int:
    """Have the helper fork; the rank goes on once its pid is known here."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    gate, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    opened = []
    try:
        if place:
            _lead(os.path.join(place, places.CODE), rank.cwd)
        opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        opened += [os.open(path, flags, 0o600) for path in (stdout, stderr)]
        passed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in [*opened, theirs.fileno()])
        line.sendmsg([rank.question], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
    except OSError as error:
        gate.close()
        raise Cold("no-answer", str(error.strerror)) from None
    finally:
        theirs.close()
        for fd in opened:
            os.close(fd)
    try:
        return _let_go(line, gate, rank)
    finally:
        gate.close()  # a rank that was not let go exits


def _let_go(line: Socket, gate: socket.socket, rank: Rank) -> int:
    answer = answer_on(line)
    if answer[:1] == b"c":
        code, _, detail = answer[1:].decode("utf-8", "replace").partition(" ")
        raise Cold(code, detail)
    if answer[:1] != b"p" or not answer[1:].isdigit():
        raise Cold("no-answer", is_final=True)
    try:
        gate.settimeout(ANSWERS)
        gate.sendall(rank.own)
    except OSError:
        raise Cold("no-answer") from None
    state = answer_on(gate)
    if state != b"0":
        raise Cold("no-answer" if not state else "not-started", state.decode("ascii", "replace"))
    try:
        gate.send(b"g")
    except OSError:
        raise Cold("no-answer") from None
    return int(answer[1:])


def answer_on(line: socket.socket) -> bytes:
    """Return what comes within a while; b"" for nothing."""
    if not select.select([line], [], [], ANSWERS)[0]:
        return b""
    try:
        return line.recv(1 << 12)
    except OSError:
        return b""
