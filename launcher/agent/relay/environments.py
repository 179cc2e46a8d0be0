"""The environments of Python that runs on this host ask for: built once, complete or not there.

::

    envs/<key>            a link to the folder of a complete environment
    envs/<key>.<pid>/     that folder, or one that is being built
    envs/<key>.<pid>.log  what its build printed
    envs/<key>.<pid>.from copies of what it is built of, while it is
    envs/locks/<key>      held while it is built or removed, shared while somebody is about to use it
    tools/uv-*/uv         a uv that a launcher brought; or micromamba-*/micromamba

Its key is made of what is wanted, the kind of tool, the Python if it is the host's, and the machine. A
run that is alive has a link ``environment`` in its folder, or ``environment-1`` for the next one, and
keeps what they lead to.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import sysconfig

from ..base import run_lock
from ..base.protocol import Refused
from ..processes import build_guard, processes
from . import disk, tree
from .steps import Steps
from .wanted import FINDING, finding, in_folders, wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..base.messages import Message
    from ..processes.build_guard import Guard
    from .data.store import DataStore
    from .wanted import Wanted

#: How many programs that may build an environment are tried.
MOST_TRIED = 6
_KEY = re.compile(r"[0-9a-f]{20}\Z")


class Environments:
    """Those below ``root``, with the locks that this process holds until it exits."""

    def __init__(self, root: str) -> None:
        self.root, self.folder = root, os.path.join(root, "envs")
        self._locks: dict[str, int] = {}
        self._building: Build | None = None
        self._asker = ("", "")  # the run and the link that it is built for
        self._link = "environment"
        self._data: DataStore | None = None

    def answer(self, request: Message) -> Message:
        """Use or begin to build what a run wants; or say how far the build is. Raises Refused."""
        if request.get("look"):
            return self._looked(finding(request["builder"]), request["finder"])
        run = request["run"]
        if not run_lock.is_run_name(run):
            raise Refused("bad-run", "not the name of a run: %.80r" % (run,))
        run_dir = os.path.join(self.root, "runs", run)
        self._link = "environment" + ("-%d" % request["number"] if request.get("number") else "")
        if self._building is None or self._asker != (run, self._link):
            code, kind = os.path.join(run_dir, "code"), request["builder"]
            brought = self._brought(request.get("brought", ""))
            origin = request.get("origin", "")
            one = wanted(code, kind, request["path"], request["wheels"], brought, origin)
            is_brought = bool(brought) or not request.get("fetched")
            return self._use(run_dir, one, request["finder"], request["may_pip"], is_brought)
        building = self._building
        if building.go_on():
            return {"state": "building", "said": building.said()}
        self._building = None
        if building.code:
            said, log = building.said(), building.tail()
            building.discard()
            self._unlock(building.key)
            tool = building.tool
            return {"state": "failed", "said": said, "log": log, "tool": tool}
        building.clear()
        link = os.path.join(self.folder, building.key)
        # A power cut must not leave files that are empty in what looks complete.
        disk.flush(building.place)
        os.symlink(os.path.basename(building.place), building.place + ".link")
        os.replace(building.place + ".link", link)
        self._lock(building.key, fcntl.LOCK_SH)
        return self._given(run_dir, building.wanted)

    def _brought(self, version: str) -> str:
        """Return the folder of wheels that a launcher has brought, which stays from now on; "" if it is
        not here."""
        if not version:
            return ""
        from .data.store import DataStore  # few runs need it

        self._data = self._data or DataStore(self.root, _nothing_goes_on)
        return self._data.files(version) if self._data.use_if_here(version) else ""

    def _use(
        self, run_dir: str, wanted: Wanted, finder: str, may_pip: bool, is_brought: bool
    ) -> Message:
        key = wanted.key()
        if self._building and self._building.key == key:
            return {"state": "busy"}  # its lock is ours
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        there = wanted.python(os.path.join(self.folder, key))
        if os.path.exists(there) and self._lock(key, fcntl.LOCK_SH) and os.path.exists(there):
            return self._given(run_dir, wanted)
        if not self._lock(key, fcntl.LOCK_EX):
            return {"state": "busy"}
        if os.path.exists(there):  # since a moment ago
            self._lock(key, fcntl.LOCK_SH)
            return self._given(run_dir, wanted)
        if not is_brought:
            self._unlock(key)
            return {"state": "no-wheels", "wanted": dict(about_python(), **wanted.recipe())}
        if self._building:  # another one: one after the other
            self._unlock(key)
            return {"state": "busy"}
        program = self._builder(wanted, finder)
        if not program and not (may_pip and wanted.can_do_without()):
            self._unlock(key)
            return self._without()
        for name in os.listdir(self.folder):  # builds that were interrupted
            if name.startswith(key):
                _remove(os.path.join(self.folder, name))
        place = os.path.join(self.folder, "%s.%d" % (key, os.getpid()))
        self._building = Build(key, place, wanted, program)
        self._asker = (os.path.basename(run_dir), self._link)
        return {"state": "building", "said": "with " + self._building.tool}

    def _without(self) -> Message:
        """Say that nothing here builds it, and which program could be brought."""
        machine, libc = os.uname().machine, _libc()
        return {"state": "no-builder", "machine": machine, "libc": libc, "tools": self._tools()}

    def _looked(self, wanted: Wanted, finder: str) -> Message:
        """Say what builds environments of a kind here."""
        program = self._builder(wanted, finder)
        if not program:
            return self._without()
        said = (processes.output_of([program, "--version"], FINDING) or "").strip()
        return {"state": "there", "tool": os.path.basename(program), "said": said[:100]}

    def _given(self, run_dir: str, wanted: Wanted) -> Message:
        """Let the run keep a complete environment, and say where it is."""
        place, link = os.path.join(self.folder, wanted.key()), os.path.join(run_dir, self._link)
        os.utime(place)
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(place, link)
        return {"state": "there", "python": wanted.python(place)}

    def _tools(self) -> str:
        path = os.path.join(self.root, "tools")
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _builder(self, wanted: Wanted, finder: str) -> str:
        """Return what builds it: a program of the host that works, else one that was brought; "" without
        one."""
        tools = self._tools()
        brought = [os.path.join(tools, name) for name in sorted(os.listdir(tools))]
        found = wanted.candidates(finder) + in_folders(wanted.program, *brought)
        by_file = {os.path.realpath(path): path for path in reversed(found)}
        for program in [one for one in found if one in by_file.values()][:MOST_TRIED]:
            if processes.output_of([program, "--version"], FINDING) is not None:
                return program
        return ""

    def _lock(self, key: str, kind: int) -> bool:
        if key not in self._locks:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._locks[key] = os.open(os.path.join(self.folder, "locks", key), flags, 0o600)
        try:
            fcntl.flock(self._locks[key], kind | fcntl.LOCK_NB)
        except OSError:
            self._unlock(key)
            return False
        return True

    def _unlock(self, key: str) -> None:
        os.close(self._locks.pop(key))

    def end(self) -> None:
        """Stop a build that nobody waits for any more, and remove it."""
        if self._building:
            self._building.kill()
            self._building.discard()
            self._building = None

    # -- keeping house

    def clear(self) -> None:
        """Remove what is left of builds that were interrupted."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            key, dot, _ = name.partition(".")
            if not dot or not _KEY.match(key) or not self._lock(key, fcntl.LOCK_EX):
                continue
            link = os.path.join(self.folder, key)
            there = os.readlink(link) if os.path.islink(link) else ""
            if name not in (there, there + ".log"):
                _remove(os.path.join(self.folder, name))
            self._unlock(key)

    def listed(self) -> list[tuple[str, str, bool]]:
        """Return the environments here, as key, folder, and whether a run uses it."""
        used = set(self._used())
        found = []
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else ():
            if _KEY.match(name):
                path = os.path.realpath(os.path.join(self.folder, name))
                found.append((name, path, name in used))
        return found

    def _used(self) -> Iterator[str]:
        runs = os.path.join(self.root, "runs")
        for name in os.listdir(runs) if os.path.isdir(runs) else ():
            run_dir = os.path.join(runs, name)
            links = [one for one in _names(run_dir) if one.partition("-")[0] == "environment"]
            links = [
                link
                for link in (os.path.join(run_dir, one) for one in links)
                if os.path.islink(link)
            ]
            if links and run_lock.is_alive(run_dir):
                for link in links:
                    yield os.path.basename(os.readlink(link))

    def remove(self, key: str) -> bool:
        """Remove an environment, unless somebody uses it."""
        if not _KEY.match(key) or not self._lock(key, fcntl.LOCK_EX):
            return False
        try:
            if key in set(self._used()):
                return False
            os.unlink(os.path.join(self.folder, key))  # from now on it is not there
            for name in os.listdir(self.folder):
                if name.startswith(key):
                    _remove(os.path.join(self.folder, name))
            return True
        except FileNotFoundError:
            return True
        finally:
            self._unlock(key)


class Build(Steps):
    """The commands that build an environment, by ``tool``. Nothing of them outlives this process."""

    def __init__(self, key: str, place: str, wanted: Wanted, program: str) -> None:
        self.key, self.place, self.wanted = key, place, wanted
        self.tool = os.path.basename(program) or "pip"
        self._source = place + ".from"
        self._guard: Guard | None = None
        env = {n: v for n, v in os.environ.items() if n not in ("VIRTUAL_ENV", "PYTHONHOME")}
        env = dict(env, NO_COLOR="1", **wanted.environment(place))
        wanted.fill(place, program)
        commands = wanted.commands(place, program, self._source)
        super().__init__(commands, env, wanted.prepare(self._source), place + ".log")

    def _started(self, argv: list[str]) -> int:
        """Start a command below a guard, which also ends what that has started: pip, compilers."""
        with open(self.log, "a"):
            pass  # from now on, there is something of it
        self._guard = build_guard.start(
            lambda mark: argv, self._env, self.log, _nothing, self._folder
        )
        return self._guard.pid

    def _ended(self) -> int | None:
        return self._guard.code if self._guard and self._guard.is_over() else None

    def kill(self) -> None:
        """Kill the command that runs, with all that it has started."""
        if self._guard:
            self._guard.stop()
            self._guard, self._pid = None, 0

    def clear(self) -> None:
        """Remove what was needed to build."""
        tree.remove(self._source)

    def discard(self) -> None:
        """Remove what was built."""
        for path in (self.place, self.log, self._source):
            _remove(path)


def _nothing(is_meant: Callable[[str], bool]) -> None:
    """Remove no containers: there are none."""


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # gone since, or no folder
        return []


def _nothing_goes_on(done: int = 0) -> None:
    """Tell nobody how far it is."""


def about_python() -> Message:
    """Return what decides which wheels fit this Python."""
    version = "%d.%d.%d" % sys.version_info[:3]
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(sys.version_info.releaselevel)
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return {
        "python": version + ("%s%d" % (level, sys.version_info.serial) if level else ""),
        "implementation": sys.implementation.name,
        "abi": "cp%d%d%s" % (sys.version_info[0], sys.version_info[1], free),
        "machine": sysconfig.get_platform().rpartition("-")[2].replace(".", "_"),
        "libc": _libc(),
    }


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):  # musl
        return ""


def _remove(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    else:
        tree.remove(path)
