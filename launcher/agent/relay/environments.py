"""The environments of Python that runs on this host ask for: built once, complete or not there.

::

    envs/<key>            a link to the folder of a complete environment
    envs/<key>.<pid>/     that folder, or one that is being built
    envs/<key>.<pid>.log  what its build printed
    envs/locks/<key>      held while it is built or removed, shared while somebody is about to use it
    tools/uv-*/uv         a uv that a launcher brought

Its key is made of what is wanted, the Python, and the machine. A run that is alive has a link
``environment`` in its folder, or ``environment-1`` for the next one, and keeps what they lead to.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys

from ..base import run_lock
from ..base.protocol import Refused
from ..processes import processes
from . import tree
from .steps import Steps
from .wanted import Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..base.messages import Message

_KEY = re.compile(r"[0-9a-f]{20}\Z")


class Environments:
    """Those below ``root``, with the locks that this process holds until it exits."""

    def __init__(self, root: str) -> None:
        self.root, self.folder = root, os.path.join(root, "envs")
        self._locks: dict[str, int] = {}
        self._building: Build | None = None
        self._link = "environment"

    def answer(self, request: Message) -> Message:
        """Use or begin to build what a run wants; or say how far the build is. Raises Refused."""
        run = request["run"]
        if not run_lock.is_run_name(run):
            raise Refused("bad-run", "not the name of a run: %.80r" % (run,))
        run_dir = os.path.join(self.root, "runs", run)
        self._link = "environment" + ("-%d" % request["number"] if request.get("number") else "")
        if self._building is None:
            wanted = Wanted(os.path.join(run_dir, "code"), request["uv"], request["wheels"])
            return self._use(run_dir, wanted, request["may_pip"])
        building = self._building
        if building.go_on():
            return {"state": "building", "said": building.said()}
        self._building = None
        if building.code:
            said, log = building.said(), building.tail()
            building.discard()
            self._unlock(building.key)
            return {"state": "failed", "said": said, "log": log}
        link = os.path.join(self.folder, building.key)
        os.sync()  # a power cut must not leave files that are empty in what looks complete
        os.symlink(os.path.basename(building.place), building.place + ".link")
        os.replace(building.place + ".link", link)
        self._lock(building.key, fcntl.LOCK_SH)
        return self._given(run_dir, building.key)

    def _use(self, run_dir: str, wanted: Wanted, may_pip: bool) -> Message:
        key = wanted.key()
        os.makedirs(os.path.join(self.folder, "locks"), mode=0o700, exist_ok=True)
        if self._is_there(key) and self._lock(key, fcntl.LOCK_SH) and self._is_there(key):
            return self._given(run_dir, key)
        uv = self._uv()
        if not uv and (wanted.is_lock or not may_pip):
            machine, libc = os.uname().machine, _libc()
            return {"state": "no-uv", "machine": machine, "libc": libc, "tools": self._tools()}
        if not self._lock(key, fcntl.LOCK_EX):
            return {"state": "busy"}
        if self._is_there(key):  # since a moment ago
            self._lock(key, fcntl.LOCK_SH)
            return self._given(run_dir, key)
        for name in os.listdir(self.folder):  # builds that were interrupted
            if name.startswith(key):
                _remove(os.path.join(self.folder, name))
        place = os.path.join(self.folder, "%s.%d" % (key, os.getpid()))
        self._building = Build(key, place, wanted, uv)
        return {"state": "building", "said": "with uv" if uv else "with pip"}

    def _is_there(self, key: str) -> bool:
        return os.path.exists(os.path.join(self.folder, key, "bin", "python"))

    def _given(self, run_dir: str, key: str) -> Message:
        """Let the run keep a complete environment, and say where it is."""
        place, link = os.path.join(self.folder, key), os.path.join(run_dir, self._link)
        os.utime(place)
        if os.path.islink(link):
            os.unlink(link)
        os.symlink(place, link)
        return {"state": "there", "python": os.path.join(place, "bin", "python")}

    def _tools(self) -> str:
        path = os.path.join(self.root, "tools")
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def _uv(self) -> str:
        """Return a uv: the host's own, else one that was brought; "" without one."""
        home, path = os.path.expanduser("~"), os.environ.get("PATH", os.defpath)
        places = [path, os.path.join(home, ".local/bin"), os.path.join(home, ".cargo/bin")]
        tools = self._tools()
        places += sorted(os.path.join(tools, name) for name in os.listdir(tools))
        try:
            return processes.find_program("uv", os.pathsep.join(places), "/")
        except FileNotFoundError:
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
    """The commands that build an environment."""

    def __init__(self, key: str, place: str, wanted: Wanted, uv: str) -> None:
        self.key, self.place = key, place
        env = {n: v for n, v in os.environ.items() if n not in ("VIRTUAL_ENV", "PYTHONHOME")}
        ours = {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable, "NO_COLOR": "1"}
        env = dict(env, UV_PROJECT_ENVIRONMENT=place, UV_NO_PROGRESS="1", **ours)
        super().__init__(wanted.commands(place, uv), env, wanted.folder, place + ".log")

    def discard(self) -> None:
        """Remove what was built."""
        for path in (self.place, self.log):
            _remove(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # gone since, or no folder
        return []


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
