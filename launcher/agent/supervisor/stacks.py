"""Writes down where each rank is: Python stacks by py-spy or by the rank itself, else the kernel's view.

A helper process does it, so that the supervisor never waits.
"""

from __future__ import annotations

import os
import sys
import time

from ..base.lean import prctl, signal
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

#: Seconds for all ranks of this host, and for one process.
SECONDS, ONE = 20.0, 5.0
#: Most processes of one rank to look at, with its data loaders for example.
PROCESSES = 16

#: The folder of our sitecustomize.py, and the name of the memfd that it writes stacks into.
INSIDE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "inside")
MEMORY = "/memfd:launcher-stacks"
#: Seconds between two looks at an answer; it is complete when it has not grown in between.
PAUSE = 0.05

#: How a rank hangs whose script is over: as Python ends, there with threads of torch's gloo, or in wait
#: for threads of the script. `records/reasons.py` names the same codes.
AT_END, WITH_GLOO, FOR_THREADS = "at-end", "with-gloo", "for-threads"
#: Or one whose script is not, as it waits, with Python's lock held, for gloo's threads to end: so where
#: the last owner of a model or a group goes, which is the last line as a rule.
GLOO_WAITS = "gloo-waits"
#: The thread of gloo that its process group joins when it is dropped; and how those of autograd are
#: called, which have no frame of Python at any time.
GLOO, AUTOGRAD = "pt_gloo_runloop", "pt_autograd"
#: The helper's descriptor to tell by, and most bytes of what it tells.
TELLS, MOST = 3, 65536

NO_PY_SPY = (
    "There is no py-spy on this host, neither beside %s nor on PATH (pip install py-spy): each Python\n"
    "was asked by a signal instead, and shows its Python frames only.\n"
)


class StackTaker:
    """Runs one helper at a time and records its end. ``wanted``: whether the run watches for stalls."""

    def __init__(self, record: Callable[..., None], wanted: bool) -> None:
        self._record, self.wanted = record, wanted
        self._helper: int | None = None
        self._told = -1  # what the helper tells is read here
        self._stamp = ""

    def prepare(self, env: dict[str, str]) -> None:
        """Have every Python with this environment prepare to be asked for its stacks."""
        if self.wanted:
            behind = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
            env["PYTHONPATH"] = os.pathsep.join([INSIDE] + behind)

    def take(self, ranks: dict[str, int], stamp: str, host: str, path: str) -> None:
        """Write ``outputs/stalls/STAMP-HOST-KEY.txt`` for ``{key: pid}``; ``path`` may have py-spy."""
        if self._helper is not None:
            return
        self._stamp = stamp
        try:
            self._told, tells = os.pipe()
        except OSError:  # too many open files
            self._record("StacksTaken", files=0)
            return
        try:
            self._helper = os.fork()
        except OSError:  # too many processes on this host
            os.close(self._told)
            self._record("StacksTaken", files=0)
            return
        finally:
            if self._helper != 0:
                os.close(tells)
        if self._helper == 0:
            os.dup2(tells, TELLS)
            _help(ranks, stamp, host.replace("/", "_"), path)

    @property
    def pids(self) -> set[int]:
        """The helper and its descendants."""
        if self._helper is None:
            return set()
        return {self._helper, *processes.descendants(self._helper)}

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the helper, and if so record what it wrote."""
        if pid != self._helper:
            return False
        self._helper = None
        try:
            files = [n for n in os.listdir("outputs/stalls") if n.startswith(self._stamp + "-")]
        except OSError:
            files = []
        os.set_blocking(self._told, False)  # of what it started, nothing is waited for
        try:
            told = os.read(self._told, MOST).decode("ascii", "replace")
        except BlockingIOError:
            told = ""
        os.close(self._told)
        over = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
        self._record("StacksTaken", files=len(files), over=over)
        return True

    def close(self) -> None:
        """Kill a helper that is still at work."""
        processes.send(self.pids, signal.SIGKILL)


def _help(ranks: dict[str, int], stamp: str, host: str, path: str) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.closerange(TELLS + 1, 1024)  # among them are the supervisor's locks
        for key, code in write(ranks, stamp, host, path).items():
            os.write(TELLS, ("%s %s\n" % (key, code)).encode())
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def write(ranks: dict[str, int], stamp: str, host: str, path: str) -> dict[str, str]:
    """Write the files of all ranks, as far as there is time. Return ``{key: code}`` of those whose
    script is over."""
    over: dict[str, str | None] = {}
    folder = os.path.join("outputs", "stalls")
    os.makedirs(folder, exist_ok=True)
    deadline = time.monotonic() + SECONDS
    spy = _py_spy(path)
    for key, pid in ranks.items():
        text = "%s on %s, process %d, %s\n" % (key, host, pid, time.strftime("%F %T %Z"))
        text += "" if spy else NO_PY_SPY % sys.executable
        for part in [pid] + processes.descendants(pid)[: PROCESSES - 1]:
            stacks = _stacks(spy, part, deadline)
            text += "\n" + stacks
            if over.get(key) is None:  # the first Python of these is the rank
                over[key] = how_over(part, stacks)
        with open(os.path.join(folder, "%s-%s-%s.txt" % (stamp, host, key)), "w") as file:
            file.write(text)
    return {key: code for key, code in over.items() if code}


def how_over(pid: int, stacks: str) -> str | None:
    """Return how a Python hangs whose script is over, by its stacks; "" for one that may be in its
    script, and None for what is no Python that can be asked.

    Then its main thread has no frame, or that of `threading._shutdown` first.
    """
    frames = _main_frames(pid, stacks)
    if frames is None:
        return None
    if not frames:
        return WITH_GLOO if GLOO in _thread_names(pid) else AT_END
    first = frames[-1]
    if "_shutdown" in first.split() and "threading.py" in first:
        return FOR_THREADS
    names = _thread_names(pid)
    foreign = sum(name.startswith(AUTOGRAD) for name in names)
    return GLOO_WAITS if GLOO in names and _without_frames(stacks) > foreign else ""


def _without_frames(stacks: str) -> int:
    """Return how many threads have none: they wait for Python's lock in C, or have called Python."""
    found, bare = 0, False
    for line in stacks.splitlines():
        if line.startswith("Thread "):
            found, bare = found + 1, True
        elif line.startswith(" ") and bare:
            found, bare = found - ("<no Python frame>" not in line), False
    return found


def _main_frames(pid: int, stacks: str) -> list[str] | None:
    """Return the frames of the main thread, the innermost first; None where they are not known.

    py-spy heads it ``Thread PID (idle): "MainThread"``. The thread that answers a signal is the main
    one: faulthandler heads it ``Current thread 0x00007f (most recent call first):``, without its number.
    """
    lines = iter(stacks.splitlines())
    heads = ("Thread %d (" % pid, "Current thread ")
    if not any(line.startswith(heads) for line in lines):
        return None
    frames = []
    for line in lines:
        if not line.startswith(" "):
            break
        frames.append(line.replace('"', " ").strip())
    return [frame for frame in frames if frame != "<no Python frame>"]


def _thread_names(pid: int) -> list[str]:
    folder = "/proc/%d/task" % pid
    try:
        threads = os.listdir(folder)
    except OSError:
        return []
    return [_read(os.path.join(folder, thread, "comm")).strip() for thread in threads]


def _py_spy(path: str) -> str | None:
    beside = os.path.dirname(sys.executable)
    try:
        return processes.find_program("py-spy", os.pathsep.join([beside, path]), "/")
    except FileNotFoundError:
        return None


def _stacks(spy: str | None, pid: int, deadline: float) -> str:
    """Return the stacks of one process, or why there are none and the kernel's view."""
    if time.monotonic() > deadline:
        stacks, complaint = "", "not asked: other processes took all of %d s\n" % SECONDS
    else:
        stacks, complaint = _by_py_spy(spy, pid, deadline) if spy else ("", "")
        stacks = stacks or ask(pid, min(ONE, deadline - time.monotonic()))
    command = processes.describe(pid)["command"]
    if stacks:
        return complaint + stacks
    return "Process %d: %s\n%s%s" % (pid, command, complaint, _threads(pid))


def _by_py_spy(spy: str, pid: int, deadline: float) -> tuple[str, str]:
    """Return ``(stacks, complaint)``, one of them empty.

    Where the kernel lets only ancestors look into a process (ptrace_scope), py-spy is refused.
    """
    import subprocess

    try:
        done = subprocess.run(
            [spy, "dump", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=min(ONE, deadline - time.monotonic()),
        )
    except (OSError, subprocess.SubprocessError) as error:
        return "", "py-spy: %s\n" % error
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace"), ""
    return "", "py-spy: %s\n" % done.stderr.decode("utf-8", "replace").strip()


def ask(pid: int, seconds: float) -> str:
    """Ask a Python for its stacks by a signal; return them, or "" when it cannot be asked.

    The signal goes only to a process that has the memfd for it and catches the signal: it would kill
    any other.
    """
    number = signal.SIGRTMAX - 7
    memory = _memory_of(pid)
    if memory is None or not _catches(pid, number):
        return ""
    with open(memory, "rb") as file:
        before = file.seek(0, os.SEEK_END)
        processes.send([pid], number)
        deadline, size = time.monotonic() + seconds, before
        while time.monotonic() < deadline:
            time.sleep(PAUSE)
            grown = file.seek(0, os.SEEK_END)
            if grown == size > before:
                break
            size = grown
        file.seek(before)
        stacks = file.read().decode("utf-8", "replace")
    if not stacks:
        return ""
    return "Process %d: %s\n%s" % (pid, processes.describe(pid)["command"], stacks)


def _memory_of(pid: int) -> str | None:
    """Return the path of the memfd that this process writes its stacks into, or None."""
    folder = "/proc/%d/fd" % pid
    try:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.readlink(path).startswith(MEMORY):
                return path
    except OSError:  # it has exited, or is another user's
        pass
    return None


def _catches(pid: int, number: int) -> bool:
    for line in _read("/proc/%d/status" % pid).splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _threads(pid: int) -> str:
    """Return name, state and kernel wait channel of every thread; its kernel stack as root only."""
    folder = "/proc/%d/task" % pid
    try:
        threads = sorted(os.listdir(folder), key=int)
    except OSError:
        return "it has exited\n"
    text = ""
    for thread in threads:
        place = os.path.join(folder, thread)
        status = _read(os.path.join(place, "status"))
        kept = [line for line in status.splitlines() if line.startswith(("Name:", "State:"))]
        text += "\nThread %s\n  %s\n" % (
            thread,
            "  ".join(line.replace("\t", " ") for line in kept),
        )
        text += "  wchan: %s\n" % (_read(os.path.join(place, "wchan")) or "unknown")
        text += "".join("  %s\n" % s for s in _read(os.path.join(place, "stack")).splitlines())
    return text


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
