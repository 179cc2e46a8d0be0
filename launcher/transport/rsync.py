"""Run rsync over an SSH connection that is already open.

rsync starts its ``-e`` program, a line of ``sh`` that passes us the remote command and connects
rsync's pipes to two of ours; we run the command on a channel of the connection. So each host needs
one login, and one set of SSH options.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

from ..spec import errors
from ..spec.frozen import frozen
from . import login_shell, program_notes, rates
from .agent_errors import os_error
from .child_process import ChildProcess
from .connection import Bridge, Connection

#: Needed on both sides: the first version that compares times below a second (modify-window=-1).
OLDEST = (3, 1, 3)
#: The first version that rejects files that the sender adds on its own (CVE-2022-29154).
REJECTS_EXTRAS = (3, 2, 5)

# $1 to $3: descriptors for the remote command, and from and to the channel; $4 is the host's name.
# Through /dev/fd, because dash takes descriptors of one digit only; 3 is a second stdin, because a
# background process has /dev/null as its first; 4 is the channel, whose lines before the marker a
# startup file has printed. Like ssh, it exits when the far side does.
_BRIDGE = (
    'd=/dev/fd c=$1 r=$2 w=$3; shift 4; echo "$*" >$d/$c; '
    "exec 3<&0 2>/dev/null; cat <&3 >$d/$w & exec 4<$d/$r; "
    f'while IFS= read -r line <&4 && test "$line" != {login_shell.MARKER}; do :; done; exec cat <&4'
)
#: Seconds after which a copy without progress is given up: a disk hangs on either side.
SILENCE = 300
#: Seconds that an rsync has to leave once it is told to.
LEAVING = 2.0
#: Bytes that a pipe of the bridge holds: with 64 KiB, processes wait for each other.
ROOM = 1 << 20
#: Descriptors for the bridge start here, above those that a shell script uses itself.
_HIGH = 20
_PERCENT = re.compile(rb"\s(\d{1,3})%\s")
_NO_ROOM = re.compile(r'rsync: (?!\[sender\])[^"\n]*"([^"\n]+)"[^\n]*No space left')
_UNREADABLE = re.compile(r'rsync: \[sender\] [^"\n]*"([^"\n]+)"[^\n]*Permission denied')
_SENT = re.compile(rb"Total bytes sent: ([\d,]+)|Total bytes received: ([\d,]+)")


@frozen
class Copied:
    """The bytes that a copy moved over the network."""

    sent: int
    received: int


def version(text: str | None) -> tuple[int, ...]:
    """Return ``(3, 2, 7)`` for "3.2.7"; () if unknown."""
    return tuple(int(part) for part in re.findall(r"\d+", text or "")[:3])


def require_here() -> str:
    """Return the version of rsync on this machine.

    Raises LauncherError if there is none, or one that is too old.
    """
    if shutil.which("rsync") is None:
        raise errors.LauncherError("there is no rsync on this machine", _HOW_TO_GET)
    words = _version_here()
    if "openrsync" in words[0] or len(words) < 3 or version(words[2]) < OLDEST:
        raise errors.LauncherError(f"rsync here is {' '.join(words)}: too old", _HOW_TO_GET)
    return words[2]


def _version_here() -> list[str]:
    """Return how rsync introduces itself, in three words. The same program is asked once."""
    this = program_notes.program("rsync")
    noted = program_notes.read(_NOTES)
    if this and noted.get("program") == this:
        known: list[str] = noted["words"]
        return known
    answer = subprocess.run(["rsync", "--version"], capture_output=True, check=False)
    text = answer.stdout.decode("ascii", "replace")
    words = ["openrsync"] if "openrsync" in text else text.split()[:3] or [""]
    if this and not answer.returncode:
        program_notes.write(_NOTES, {"program": this, "words": words})
    return words


_NOTES = "rsync-version.json"

_HOW_TO_GET = "install 3.1.3 or newer: apt install rsync, dnf install rsync or brew install rsync"


def rejects_extras(found: str) -> bool:
    """Return whether this machine's rsync, of version ``found``, rejects files that it did not ask for.

    A distribution may have backported that to an older version, with its option --trust-sender.
    """
    if version(found) >= REJECTS_EXTRAS:
        return True
    words = ["rsync", "--trust-sender", "--version"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


async def copy(
    connection: Connection,
    host: str,
    arguments: list[str],
    names: bytes,
    progress: Callable[[int], None] = lambda percent: None,
) -> Copied:
    """Run ``rsync arguments``, the last two of which are from where and to where: the host's side is
    written ``x:PATH``. It keeps to the rate that is set.

    ``names``, separated by NUL, go to ``--files-from=-``. Raises SyncError, Vanished, DiskFull,
    ReadOnly, ConnectionLost, or RecordError if this machine is out of space.
    """
    async with rates.share() as rate:
        limit = [f"--bwlimit={max(1, rate // 1024)}"] if rate else []
        *options, source, target = arguments
        words = [*limit, *options, _whole(source), _whole(target)]
        return await _copy(connection, host, words, names, progress)


def _whole(place: str) -> str:
    """Return a place on this machine by its whole path: in another one, rsync takes a colon for a host,
    and a dash at its front for an option."""
    if place.startswith("x:"):
        return place
    return os.path.abspath(place) + "/" * place.endswith("/")


async def _copy(
    connection: Connection,
    host: str,
    arguments: list[str],
    names: bytes,
    progress: Callable[[int], None],
) -> Copied:
    command, tell = _pipe()
    from_host, to_rsync = _pipe(ROOM)
    from_rsync, to_host = _pipe(ROOM)
    ours = [command, to_rsync, from_rsync]
    theirs = [tell, from_host, to_host]
    try:
        try:
            process = await ChildProcess.start(
                [
                    "rsync",
                    "-e",
                    f"sh -c '{_BRIDGE}' launcher {tell} {from_host} {to_host}",
                    "--from0",
                    "--files-from=-",
                    "--info=progress2",
                    "--stats",
                    "--modify-window=-1",
                    f"--timeout={SILENCE}",
                    "--protect-args",
                    "--blocking-io",  # cat fails on a pipe that would block
                    *arguments,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=theirs,
                env={**os.environ, "LC_ALL": "C"},
            )
        finally:
            for fd in theirs:
                os.close(fd)
        try:
            far = connection.bridge()
            listed = _COMMENT.sub(rb"\1./", names)
            ended = await _drive(process, far, _serve(far, ours), listed, progress)
        finally:
            await _end(process)
    finally:
        for fd in ours:
            _close(fd)
    if ended.code != 0:
        raise _failure(host, ended, is_pulling=not arguments[-1].startswith("x:"))
    sent = [int((a or b).replace(b",", b"")) for a, b in _SENT.findall(ended.summary)]
    return Copied(*sent[:2]) if len(sent) >= 2 else Copied(0, 0)


async def _end(process: ChildProcess) -> None:
    """End rsync and its bridge. Where it does not hang, it puts what has come of a file into the folder
    of halves, from which the next copy continues."""
    process.signal_all(signal.SIGTERM)
    try:
        async with asyncio.timeout(LEAVING):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        await process.end(signal.SIGKILL)


#: The beginning of a name that rsync takes for a comment, and would drop from its list.
_COMMENT = re.compile(rb"(\A|\0)(?=[#;])")


def _pipe(size: int = 0) -> tuple[int, int]:
    """Return the ends of a pipe, with room for so many bytes where the system grants that."""
    found, both = [], os.pipe()
    if size and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the pipes of this user have too much already: pipe(7)
            fcntl.fcntl(both[0], fcntl.F_SETPIPE_SZ, size)
    for low in both:
        found.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH))
        os.close(low)
    return found[0], found[1]


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass


#: Bytes of names that rsync is given at once.
_PIECE = 1 << 16
#: Bytes of complaints that are kept, and how many no honest host sends.
KEPT, FLOOD = 1 << 20, 64 << 20
#: What stands for the complaints of a host that sends more.
FLOODED = b"its rsync complains without end"


@frozen
class _Ended:
    """How an rsync exited, the end of what it printed, and what it and the far side complained of."""

    code: int
    summary: bytes
    complaint: str


async def _drive(
    process: ChildProcess,
    far: Bridge,
    serving: Coroutine[Any, Any, bytes],
    names: bytes,
    progress: Callable[[int], None],
) -> _Ended:
    """Feed rsync and its far side until it exits."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    feeding = asyncio.ensure_future(_feed(process.stdin, names))
    channel = asyncio.ensure_future(serving)
    complaints = asyncio.ensure_future(_complaints(process))
    summary = b""
    try:
        while piece := await process.stdout.read(1 << 14):
            summary = (summary + piece)[-4000:]
            if found := _PERCENT.findall(piece):
                progress(int(found[-1]))
        far.hang_up()  # rsync has exited; if it was killed, its bridge still runs
        code = await process.wait()
        complaint = b"" if code == 0 else await complaints + await _last_words(channel)
        return _Ended(code, summary, complaint.decode("utf-8", "replace").strip())
    finally:
        for task in (feeding, channel, complaints):
            task.cancel()
        await asyncio.gather(feeding, channel, complaints, return_exceptions=True)


async def _complaints(process: ChildProcess) -> bytes:
    """Return the start of what rsync and its far side complain of; kill it where that has no end."""
    assert process.stderr
    kept, count = b"", 0
    while piece := await process.stderr.read(1 << 16):
        kept += piece[: KEPT - len(kept)]
        count += len(piece)
        if count > FLOOD:
            process.signal_all(signal.SIGKILL)
    return FLOODED if count > FLOOD else kept


async def _feed(stdin: asyncio.StreamWriter, names: bytes) -> None:
    try:
        for start in range(0, len(names), _PIECE):
            stdin.write(names[start : start + _PIECE])
            await stdin.drain()
        stdin.close()
    except OSError:
        pass  # rsync's exit code says what was wrong


async def _serve(far: Bridge, ours: list[int]) -> bytes:
    """Run the command that rsync wants on the host; return what it wrote to stderr.

    In any case close rsync's pipes at the end, so that rsync exits as well.
    """
    try:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours.pop(0), "rb", 0)
        )
        line = await reader.readline()
        transport.close()
        if not line:  # rsync exited before it had a bridge
            return b""
        command = line.decode("utf-8", "surrogateescape").strip()
        return await far.run(login_shell.marked(command), ours)
    finally:
        while ours:
            _close(ours.pop())


async def _last_words(channel: asyncio.Future[bytes]) -> bytes:
    """Return what the far side complained of. Raises HostError where it could not be run at all."""
    try:
        async with asyncio.timeout(2.0):
            return await channel
    except (TimeoutError, OSError):
        return b""


def _failure(host: str, ended: _Ended, is_pulling: bool) -> errors.LauncherError:
    code, complaint = ended.code, ended.complaint
    if complaint.startswith(FLOODED.decode()):
        return errors.BadAnswer(host, FLOODED.decode())
    if is_pulling and (closed := _UNREADABLE.findall(complaint)):
        more = f" and {len(closed) - 1} more" if closed[1:] else ""
        return errors.SyncError(host, f"{closed[0]}{more} cannot be read there: Permission denied")
    if not is_pulling and (closed := _UNREADABLE.findall(complaint)):
        more = f" and {len(closed) - 1} more" if closed[1:] else ""
        return errors.SyncError(
            host,
            f"{closed[0]}{more} on this machine cannot be read: Permission denied",
            "chmod u+r it, or list it in .launcherignore",
        )
    if is_pulling and (full := _NO_ROOM.search(complaint)):
        return errors.RecordError(full[1], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    if "rsync: not found" in complaint or "rsync: command not found" in complaint:
        return no_rsync(host)
    known = os_error(host, complaint)
    if known:
        return known
    lines = complaint.splitlines() or ["no message"]
    # "rsync error" sums up what went before, which may be the far side's and so stand behind it.
    last = next((line for line in lines if not line.startswith("rsync error: ")), lines[0])
    if code < 0:
        return errors.SyncError(host, f"rsync here was killed by {signal.Signals(-code).name}")
    if code in (10, 12, 30, 255):  # the stream broke: errcode.h of rsync
        hint = errors.HANGS if "timeout" in last else ""
        return errors.ConnectionLost(host, f"the copy was interrupted: {last}", hint)
    kind = errors.Vanished if code == 24 else errors.SyncError
    return kind(host, f"rsync exited with {code}: {last}")


def no_rsync(host: str) -> errors.NoRsync:
    """Return the error for a host without rsync."""
    return errors.NoRsync(host, "there is no rsync", "apt install rsync (or dnf) on that host")


def require_there(host: str, there: str | None) -> None:
    """Raise NoRsync if a host's rsync is missing or too old."""
    if there is None:
        raise no_rsync(host)
    found = version(there)
    if found and found < OLDEST:
        raise errors.NoRsync(host, f"rsync {there} is too old", "install 3.1.3 or newer there")
