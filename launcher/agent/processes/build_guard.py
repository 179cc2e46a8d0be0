"""Runs a build, as of an image, so that nothing of it stays behind, whoever is killed meanwhile.

A podman that is killed leaves what a RUN has started, and a working container for each stage. So each
build has a guard, a process of its own: it ends the build when its pipe from us ends, adopts what podman
leaves, and removes the containers. They are known by a name in their /etc/hosts with the guard's number.
"""

from __future__ import annotations

import os
import re
import select
import time

from ..base import lean
from ..base.lean import prctl, signal
from . import processes
from .processes import PR_SET_CHILD_SUBREAPER, Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    #: Removes the working containers whose mark a function tells.
    Clean = Callable[[Callable[[str], bool]], None]

#: How a host is called that only our builds have: by the guard, and when that began.
MARK = "launcher-build-%d-%d"
_MARKED = re.compile(r"launcher-build-([0-9]+)-([0-9]+)(?![0-9])")
#: Between the log of a build and that of the next try, which does without containers for RUN.
AGAIN = "launcher: containers cannot be made here for RUN; again with --isolation=chroot"
#: Seconds for podman to clean up after a step that was killed; then for it to end at SIGTERM.
CLEANING, ENDING = 4.0, 2.0
#: Seconds between two looks at the build.
PAUSE = 0.05
#: Bytes of what podman writes about a container.
MOST = 1 << 22


class Guard:
    """A guard that runs, as its parent sees it."""

    def __init__(self, pid: int, life: int, before: Collection[int], clean: Clean) -> None:
        self.pid, self._life, self._before, self._clean = pid, life, before, clean
        #: Exit code of the build, once it is over.
        self.code: int | None = None

    def is_over(self) -> bool:
        """Return whether build and guard have ended; end what a guard that was killed has left."""
        if self.code is not None:
            return True
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        self.code = processes.exit_code(status)
        if self.code < 0:
            _end_all(os.getpid(), self._before)
            self._clean(is_stale)
        self._let_go()
        prctl(PR_SET_CHILD_SUBREAPER, 0)
        return True

    def stop(self) -> None:
        """End the build, and wait until nothing is left of it."""
        self._let_go()
        while not self.is_over():
            time.sleep(PAUSE)

    def _let_go(self) -> None:
        if self._life >= 0:
            os.close(self._life)
            self._life = -1


def start(
    command: Callable[[str], list[str]],
    env: dict[str, str],
    log: str,
    clean: Clean,
    folder: str = "/",
) -> Guard:
    """Start a build in a folder. ``command`` makes its arguments of the mark that its containers bear,
    and ``clean`` removes the containers whose mark a function tells."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # of a guard that is killed, we get what it had
    before = set(processes.descendants(os.getpid()))
    reader, life = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        return Guard(pid, life, before, clean)
    code = 127
    try:
        os.close(life)
        _alone()
        code = _guarded(command, env, log, clean, reader, folder)
    finally:
        os._exit(code)


def _alone() -> None:
    """Hold on to nothing of the process that has made us, which others may wait for to be closed."""
    processes.forget_handlers()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _guarded(
    command: Callable[[str], list[str]],
    env: dict[str, str],
    log: str,
    clean: Clean,
    life: int,
    folder: str,
) -> int:
    """Run a build to its end, or until ``life`` ends; return its exit code."""
    mine = MARK % (os.getpid(), _began(os.getpid()))
    clean(is_stale)
    launch = Launch(command(mine), env, folder)
    try:
        pid = processes.start(launch, log, log)
    except OSError as error:
        with open(log, "a") as file:
            file.write("cannot start %s: %s\n" % (launch.argv[0], error.strerror))
        return 127
    code: int | None = None
    while code is None and not select.select([life], [], [], PAUSE)[0]:
        code = _reaped(pid)
    if code is None:
        code = _ended(pid)
    _end_all(os.getpid())
    if code:
        clean(lambda mark: mark == mine)
    return code if code >= 0 else 128 - code


def _reaped(pid: int) -> int | None:
    """Bury who has ended; return the exit code of one of them if it has."""
    code = None
    while True:
        try:
            one, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1 if code is None else code
        if not one:
            return code
        if one == pid:
            code = processes.exit_code(status)


def _ended(pid: int) -> int:
    """End a build: first the step that it executes, so that podman sees it fail and cleans up."""
    program = _program(pid)
    steps = [one for one in _descendants(pid) if _program(one) != program]
    if steps:
        processes.send(steps, signal.SIGKILL)
    for number, seconds in ((0, CLEANING if steps else 0.0), (signal.SIGTERM, ENDING)):
        if number:
            processes.send([pid], number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            code = _reaped(pid)
            if code is not None:
                return code
            time.sleep(PAUSE)
    return -signal.SIGKILL


def _program(pid: int) -> str:
    try:
        return os.readlink("/proc/%d/exe" % pid)
    except OSError:
        return ""


def _descendants(pid: int) -> list[int]:
    """Return the descendants of a process, but the one that keeps the namespace of all of a user's
    containers."""
    return [one for one in processes.descendants(pid) if not _keeps_namespace(one)]


def _keeps_namespace(pid: int) -> bool:
    try:
        with open("/proc/%d/comm" % pid) as name, open("/proc/%d/cmdline" % pid, "rb") as words:
            return name.read() == "podman pause\n" or words.read(4096).endswith(b"catatonit\0-P\0")
    except OSError:
        return False


def _end_all(parent: int, apart: Collection[int] = ()) -> None:
    """Kill the descendants of a process but some, until there are none."""
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        there = [pid for pid in _descendants(parent) if pid not in apart]
        processes.send(there, signal.SIGKILL)
        for pid in there:
            try:
                os.waitpid(pid, os.WNOHANG)  # what we have adopted
            except OSError:
                pass
        if not there:
            break
        time.sleep(PAUSE / 5)


# -- containers


def _began(pid: int) -> int:
    """Return when a process began, in ticks since the boot; 0 if it is gone."""
    return processes.table().get(pid, (0, "", 0))[2]


def is_stale(mark: str) -> bool:
    """Return whether the guard that a mark names is gone."""
    found = _MARKED.match(mark)
    return found is not None and _began(int(found[1])) != int(found[2])


def working_containers(storage: str, is_meant: Callable[[str], bool]) -> list[str]:
    """Return the working containers below a storage of podman whose mark a function tells."""
    found = []
    for name in os.listdir(storage) if os.path.isdir(storage) else ():
        base = os.path.join(storage, name)
        for one in os.listdir(base) if name.endswith("-containers") else ():
            mark = _mark_of(os.path.join(base, one, "userdata", "buildah.json"))
            if mark and is_meant(mark):
                found.append(one)
    return found


def _mark_of(path: str) -> str:
    try:
        with open(path) as file:
            about = lean.loads(file.read(MOST))
        names = about["CommonBuildOpts"]["AddHost"] or []
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    marks = [one.partition(":")[0] for one in names if isinstance(one, str) and _MARKED.match(one)]
    return marks[0] if marks else ""
