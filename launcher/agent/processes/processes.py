"""Starts processes, signals them, and finds them in /proc."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from ..base.lean import prctl, signal
from .limits import hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from typing import Any

    from .limits import Held

#: Exit codes of a killed process: our own notation, and a shell's.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

#: Bytes that are read at once of a file in /proc; PF_KTHREAD of the kernel.
_ROOM, _KERNEL = 1 << 16, 0x200000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Launch:
    """A program to start: its arguments, environment, folder, and limits (see limits.py)."""

    __slots__ = ("argv", "cwd", "env", "limits")

    def __init__(
        self, argv: list[str], env: dict[str, str], cwd: str, limits: Held | None = None
    ) -> None:
        self.argv, self.env, self.cwd, self.limits = argv, env, cwd, limits


def start(launch: Launch, stdout: str, stderr: str, stdin: str = os.devnull) -> int:
    """Start a program in a session of its own; return its pid.

    Its streams are appended to two files; it reads ``stdin``, empty by default, or a named pipe that is
    not waited for. It handles signals as any new program, whatever this process ignores, and the kernel
    kills it when this process dies. Raises OSError when it cannot be executed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    streams = [os.open(stdin, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)]
    os.set_blocking(streams[0], True)
    try:
        for path in (stdout, stderr):
            streams.append(os.open(path, flags, 0o600))
        return start_with(launch, streams)
    finally:
        for fd in streams:
            os.close(fd)


def start_with(launch: Launch, streams: list[int]) -> int:
    """Start a program whose first descriptors are ``streams``: stdin, stdout, stderr, and so on."""
    # Search the PATH of the program, not that of this process.
    program = find_program(launch.argv[0], launch.env.get("PATH", os.defpath), launch.cwd)
    trouble, low = os.pipe()
    report = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)  # above those that streams replace
    os.close(low)
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _detach(parent, streams)
                os.chdir(launch.cwd)
                if launch.limits:
                    hold(launch.limits)
                os.execve(program, launch.argv, launch.env)
            except OSError as error:
                os.write(report, str(error.errno).encode())
            except ValueError:  # an environment that execve(2) cannot take, or an invalid limit
                os.write(report, str(errno.EINVAL).encode())
            finally:
                os._exit(127)
    finally:
        os.close(report)
    with os.fdopen(trouble, "rb") as pipe:
        code = pipe.read()  # empty when the program was executed: that closes the pipe
    if code:
        os.waitpid(pid, 0)
        raise OSError(int(code), os.strerror(int(code)), launch.argv[0])
    return pid


def _detach(parent: int, streams: list[int]) -> None:
    """Give this fork a session, streams and signals of its own; exit if ``parent`` died meanwhile."""
    forget_handlers()
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
        os.set_inheritable(target, True)  # dup2 does nothing where both are the same


def watch_signals(terminated: Callable[[], None]) -> int:
    """Return a descriptor that becomes readable at each SIGCHLD and SIGTERM.

    SIGTERM also calls ``terminated``. SIGHUP and SIGINT, which a terminal sends, are ignored.
    """
    ready, wake = os.pipe()
    os.set_blocking(ready, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: terminated())
    return ready


def unwatch_signals(ready: int) -> None:
    """Close what :func:`watch_signals` has opened; the handlers stay until it is called again."""
    os.close(signal.set_wakeup_fd(-1))
    os.close(ready)


def forget_handlers() -> None:
    """Restore the default handling of all signals, in a fork."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)


def output_of(
    argv: list[str], seconds: float = 10.0, env: Mapping[str, str] | None = None
) -> str | None:
    """Return what a program writes to stdout; None when it is missing, fails or takes too long.

    ``env`` is its environment, ours by default.
    """
    begun = begin(argv, env)
    return output(begun, seconds) if begun else None


def begin(argv: list[str], env: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """Start a program whose :func:`output` is wanted later; return None when it is missing."""
    reader, writer = os.pipe()
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawnp(argv[0], argv, env or os.environ, file_actions=streams)
    except OSError:
        os.close(reader)
        return None
    finally:
        os.close(writer)
    return pid, reader


def output(begun: tuple[int, int], seconds: float) -> str | None:
    """Return the output of a program that :func:`begin` has started, as :func:`output_of` does."""
    pid, reader = begun
    text, deadline = b"", time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        text += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reader)
    return text.decode("utf-8", "replace") if os.waitpid(pid, 0)[1] == 0 else None


def exit_code(status: int) -> int:
    """Return the exit code of a waitpid(2) status, or minus the signal that killed the process."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def find_program(name: str, path: str, cwd: str) -> str:
    """Return the file that ``name`` means in ``cwd`` with this PATH. Raises FileNotFoundError."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        candidate = os.path.join(cwd, folder, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "command not found on PATH (%s)" % path, name)


def is_program(name: str) -> bool:
    """Return whether a program of that name is on our PATH."""
    try:
        find_program(name, os.environ.get("PATH", os.defpath), "/")
    except FileNotFoundError:
        return False
    return True


def table() -> dict[int, tuple[int, str, int]]:
    """Return ``{pid: (parent, state, start time)}`` of all visible processes."""
    return {pid: (int(f[1]), f[0].decode(), int(f[19])) for pid, f in _stats()}


def _stats() -> Iterator[tuple[int, list[bytes]]]:
    """Yield ``(pid, fields)`` of all processes."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), _stat(name)
            except OSError:
                continue


def living() -> list[int]:
    """Return the pids of all other processes that live, without the threads of the kernel: of those a
    large machine has thousands."""
    own = os.getpid()
    return [
        pid
        for pid, fields in _stats()
        if fields[0] not in b"ZX" and pid != own and not int(fields[6]) & _KERNEL
    ]


def _stat(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat (proc(5)), from the state (field 3) on. Raises OSError."""
    text = _read("/proc/%s/stat" % pid)
    return text[text.rfind(b")") + 2 :].split()


def faults(pid: int) -> tuple[int, int]:
    """Return the minor and major page faults of a process. Raises OSError."""
    fields = _stat(pid)
    return int(fields[7]), int(fields[9])


def _read(path: str) -> bytes:
    """Read a file of one process in half the time of a file object: a scan reads hundreds. The kernel
    returns all of it at once, as far as there is room."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = piece = os.read(fd, _ROOM)
        while len(piece) == _ROOM:
            piece = os.read(fd, _ROOM)
            text += piece
        return text
    finally:
        os.close(fd)


def cpu_seconds(roots: Collection[int]) -> dict[int, float]:
    """Return ``{pid: seconds}`` of CPU time of each process and its descendants.

    It includes children that have exited and were waited for.
    """
    stats = dict(_stats())
    own = {pid: sum(int(ticks) for ticks in fields[11:15]) for pid, fields in stats.items()}
    families = _families(roots, {pid: int(fields[1]) for pid, fields in stats.items()})
    tick = os.sysconf("SC_CLK_TCK")
    return {root: sum(own[pid] for pid in families[root]) / tick for root in roots}


def families(roots: Iterable[int]) -> dict[int, list[int]]:
    """Return ``{pid: pids}`` of each process and its descendants, without zombies."""
    seen = table()
    whole = _families(roots, {pid: parent for pid, (parent, _, _) in seen.items()})
    return {root: [pid for pid in pids if seen[pid][1] not in "ZX"] for root, pids in whole.items()}


def _families(roots: Iterable[int], parents: dict[int, int]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, list[int]] = {}
    for root in roots:
        found[root], queue = [], [root] if root in parents else []
        while queue:
            pid = queue.pop()
            found[root].append(pid)
            queue.extend(children.get(pid, ()))
    return found


def descendants(root: int) -> list[int]:
    """Return the pids of the descendants of ``root``, without zombies."""
    return [pid for pid in families([root])[root] if pid != root]


def is_own(pid: int) -> bool:
    """Return whether a process is this user's. Nothing that others write into the memory of theirs
    is read, also by root: command line and environment may lie on a file system that never answers."""
    return user_of(pid) == os.getuid()


def started_at(pid: int) -> float | None:
    """Return when a process was started, in seconds since the epoch; None where it is gone."""
    try:
        ticks = int(_stat(pid)[19])
        up = float(_read("/proc/uptime").split()[0])
    except (OSError, IndexError, ValueError):
        return None
    return round(time.time() - up + ticks / os.sysconf("SC_CLK_TCK"), 1)


def user_of(pid: int) -> int | None:
    """Return the uid of who started a process, or None. /proc/PID itself belongs to root where a
    process may not be looked into."""
    try:
        for line in _read("/proc/%d/status" % pid).split(b"\n"):
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def user_name(uid: int) -> str:
    """Return the name of a user, or its number where it has none."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def marked(
    run_id: str, host: str, among: Iterable[int] | None = None
) -> tuple[list[int], int, int]:
    """Pids of this user whose environment says that they belong to this run on this host; of all
    processes, or of those ``among`` them.

    Returns ``(pids, scanned, unreadable)``; processes of other users are not read, nor are they ours.
    """
    wanted = {b"LAUNCHER_RUN_ID=" + os.fsencode(run_id), b"LAUNCHER_HOST=" + os.fsencode(host)}
    found, scanned, unreadable = [], 0, 0
    for pid, variables in environments(among):
        scanned += 1
        if variables is None:
            unreadable += 1
        elif wanted.issubset(variables):
            found.append(pid)
    return found, scanned, unreadable


def environments(
    among: Iterable[int] | None = None,
) -> Iterator[tuple[int, list[bytes] | None]]:
    """``(pid, variables)`` of all other processes that live, or of those ``among`` them; None for one
    that cannot be read, or is another user's."""
    for pid in living() if among is None else among:
        try:
            text = _read("/proc/%d/environ" % pid) if is_own(pid) else None
        except OSError:
            text = None
        yield pid, None if text is None else text.split(b"\0")


def rename(words: list[str]) -> None:
    """Have ps(1) show these words for this process, as far as there is room."""
    try:
        start, end = (int(word) for word in _stat("self")[45:47])
        shown = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(shown.ljust(end - start, b"\0"))
    except (OSError, ValueError):
        pass


def writers(folder: str, among: Iterable[int] | None = None) -> Iterator[tuple[int, str]]:
    """``(pid, path)`` of other processes, or of those ``among`` them, whose standard output or error is
    a file below ``folder``.

    A process that changes its environment, its session and its parent still writes where it did.
    """
    for pid in living() if among is None else among:
        for number in (1, 2):
            try:
                path = os.readlink("/proc/%d/fd/%d" % (pid, number))
            except OSError:
                continue
            if path.startswith(folder + "/"):
                yield pid, path
                break


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def describe(pid: int) -> dict[str, Any]:
    """Return the pid and command of a process, for a receipt."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    return {"pid": pid, "command": words.strip()[:200]}


def out_of_memory_kills() -> int | None:
    """Return how many processes this kernel has killed for memory since boot, or None."""
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None
