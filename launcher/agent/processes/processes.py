"""Finds, starts and signals processes through /proc: what a supervisor does to what it owns."""

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
    from typing import Any, NoReturn

    from .limits import Held

#: The exit of a process that was killed, also as a shell in between tells it.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def start(
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    stdout: str,
    stderr: str,
    limits: Held | None = None,
) -> int:
    """Starts ``argv`` in a session of its own, streams appended to two files, stdin empty.

    Returns its pid. It hears all signals, whatever its supervisor ignores, and is killed by the
    kernel when the supervisor dies. Raises OSError when it cannot be executed.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    streams = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    try:
        for path in (stdout, stderr):
            streams.append(os.open(path, flags, 0o600))
        return start_with(argv, env, cwd, streams, limits)
    finally:
        for fd in streams:
            os.close(fd)


def start_with(
    argv: list[str], env: dict[str, str], cwd: str, streams: list[int], limits: Held | None = None
) -> int:
    """The same with these descriptors as its first ones: stdin, stdout, stderr, and so on."""
    # A search on PATH has to use the PATH of the process, not the one of this interpreter.
    program = find_program(argv[0], env.get("PATH", os.defpath), cwd)
    trouble, low = os.pipe()
    tell = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)  # not one of the first: those are replaced
    os.close(low)
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _become(program, argv, env, cwd, streams, parent, tell, limits)
    finally:
        os.close(tell)
    with os.fdopen(trouble, "rb") as pipe:
        code = pipe.read()  # empty as soon as the child is executed: the pipe closes then
    if code:
        os.waitpid(pid, 0)
        raise OSError(int(code), os.strerror(int(code)), argv[0])
    return pid


def _become(
    program: str,
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    streams: list[int],
    parent: int,
    tell: int,
    limits: Held | None,
) -> NoReturn:
    """What a fork does until it is the program; ``tell`` hears the errno when that fails."""
    try:
        forget_handlers()
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
            os.set_inheritable(target, True)  # where it had this number before
        os.chdir(cwd)
        if limits:
            hold(limits)
        os.execve(program, argv, env)
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    except ValueError:  # an environment that execve(2) cannot take, or a limit that is none
        os.write(tell, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def watch_signals(terminated: Callable[[], None]) -> int:
    """A descriptor that can be read from after every SIGCHLD and SIGTERM, of which the latter also calls
    ``terminated``. What a closed terminal sends is ignored."""
    ready, wake = os.pipe()
    os.set_blocking(ready, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: terminated())
    return ready


def forget_handlers() -> None:
    """A fork hears signals as any process does, not as its parent."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)


def output_of(
    argv: list[str], seconds: float = 10.0, env: Mapping[str, str] | None = None
) -> str | None:
    """What a program writes to stdout, or None when it is not there, fails or takes too long.
    ``env`` is its environment, where it is not ours."""
    begun = begin(argv, env)
    return output(begun, seconds) if begun else None


def begin(argv: list[str], env: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """A program whose :func:`output` is wanted later; None when it is not there."""
    heard, say = os.pipe()
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, say, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawnp(argv[0], argv, env or os.environ, file_actions=streams)
    except OSError:
        os.close(heard)
        return None
    finally:
        os.close(say)
    return pid, heard


def output(begun: tuple[int, int], seconds: float) -> str | None:
    """What one that was begun writes to stdout, as of :func:`output_of`, after so many more seconds."""
    pid, heard = begun
    said, deadline = b"", time.monotonic() + seconds
    while select.select([heard], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(heard, 1 << 16)
        if not piece:
            break
        said += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(heard)
    return said.decode("utf-8", "replace") if os.waitpid(pid, 0)[1] == 0 else None


def exit_code(status: int) -> int:
    """What waitpid(2) told, as an exit code, or minus the number of the signal that ended it."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def find_program(name: str, path: str, cwd: str) -> str:
    """The file that ``name`` means in ``cwd`` with this PATH. Raises FileNotFoundError."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        candidate = os.path.join(cwd, folder, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, "command not found on PATH (%s)" % path, name)


def table() -> dict[int, tuple[int, str, int]]:
    """``{pid: (parent, state, start time)}`` of all processes that can be seen."""
    return {pid: (int(f[1]), f[0].decode(), int(f[19])) for pid, f in _stats()}


def _stats() -> Iterator[tuple[int, list[bytes]]]:
    """``(pid, fields)`` of all processes."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), _stat(name)
            except OSError:
                continue


def _stat(pid: int | str) -> list[bytes]:
    """The fields of a process: proc(5), /proc/PID/stat, from the state (field 3) on. Raises OSError."""
    text = _read("/proc/%s/stat" % pid)
    return text[text.rfind(b")") + 2 :].split()


def faults(pid: int) -> tuple[int, int]:
    """Pages that a process was given, and those that had to be read for it. Raises OSError."""
    fields = _stat(pid)
    return int(fields[7]), int(fields[9])


def _read(path: str) -> bytes:
    """A whole file, at half of what a file object costs: a look at all processes reads hundreds."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = piece = os.read(fd, 1 << 16)
        while piece:
            piece = os.read(fd, 1 << 16)
            text += piece
        return text
    finally:
        os.close(fd)


def cpu_seconds(roots: Collection[int]) -> dict[int, float]:
    """``{pid: seconds}`` of CPU time that each process and all below it have used.

    What children have used that ended and were waited for is in it.
    """
    stats = dict(_stats())
    own = {pid: sum(int(ticks) for ticks in fields[11:15]) for pid, fields in stats.items()}
    families = _families(roots, {pid: int(fields[1]) for pid, fields in stats.items()})
    tick = os.sysconf("SC_CLK_TCK")
    return {root: sum(own[pid] for pid in families[root]) / tick for root in roots}


def families(roots: Iterable[int]) -> dict[int, list[int]]:
    """``{pid: pids}`` of each process that is there and all below it, zombies left out."""
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
    """Pids below ``root``, zombies left out."""
    return [pid for pid in families([root])[root] if pid != root]


def is_own(pid: int) -> bool:
    """Return whether a process is this user's. Nothing that others write into the memory of theirs
    is read, also by root: command line and environment may lie on a file system that never answers."""
    return user_of(pid) == os.getuid()


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


def marked(run_id: str, host: str) -> tuple[list[int], int, int]:
    """Pids of this user whose environment says that they belong to this run on this host.

    Returns ``(pids, scanned, unreadable)``; processes of other users are not read, nor are they ours.
    """
    wanted = {b"LAUNCHER_RUN_ID=" + os.fsencode(run_id), b"LAUNCHER_HOST=" + os.fsencode(host)}
    found, scanned, unreadable = [], 0, 0
    for pid, variables in environments():
        scanned += 1
        if variables is None:
            unreadable += 1
        elif wanted.issubset(variables):
            found.append(pid)
    return found, scanned, unreadable


def environments() -> Iterator[tuple[int, list[bytes] | None]]:
    """``(pid, variables)`` of all other processes that live; None for one that cannot be read, or is
    another user's."""
    for pid, (_, state, _) in table().items():
        if state in "ZX" or pid == os.getpid():
            continue
        try:
            text = _read("/proc/%d/environ" % pid) if is_own(pid) else None
        except OSError:
            text = None
        yield pid, None if text is None else text.split(b"\0")


def send(pids: Iterable[int], number: int) -> None:
    """Signals each, whether it is still there or not."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def describe(pid: int) -> dict[str, Any]:
    """A process in a few words, for a receipt."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    return {"pid": pid, "command": words.strip()[:200]}


def out_of_memory_kills() -> int | None:
    """How many processes this kernel has killed for memory since it booted, or None."""
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return None
