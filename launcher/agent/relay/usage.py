"""What launcher's files take on this host's disk, by run, version of code and agent; and removal."""

from __future__ import annotations

import fcntl
import os
import re
import stat

from ..base import run_lock
from ..host.machine import OTHERS
from ..processes import processes
from . import tree
from .data import places as data_places
from .environments import Environments
from .images.store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..base.messages import Message

#: Names of sources, versions of code and agents: each is one folder.
_CODE = re.compile(r"[0-9a-f]{1,64}\Z")
_VERSION = re.compile(r"[\w.-]{1,128}\Z", re.A)
_AGENT = re.compile(r"agent-[0-9a-f]{1,64}[\w.]{0,32}\Z", re.A)
#: Most entries of a kind that are listed.
MOST = 20000


def usage(root: str, going_on: Callable[[], object]) -> Message:
    """Return the bytes of everything below ``root``: a file with several names counts once, first for
    the version of the code that it belongs to. Remove the places of Pythons whose owner was killed."""
    from ..supervisor.warm import places

    places.clear(root)
    seen: set[tuple[int, int]] = set()
    code = [
        {
            "source": source,
            "version": version,
            "bytes": tree.disk_use(path, seen, going_on),
            "used": tree.mtime(path),
        }
        for source, version, path in _versions(root)
    ]
    runs = [
        {
            "run": name,
            "bytes": tree.disk_use(path, seen, going_on),
            "used": tree.mtime(os.path.join(path, "journal.jsonl")) or tree.mtime(path),
            "alive": run_lock.is_alive(path),
        }
        for name, path in _entries(os.path.join(root, "runs"))
        if run_lock.is_run_name(name)
    ]
    envs = [
        {
            "env": key,
            "bytes": tree.disk_use(path, seen, going_on),
            "used": tree.mtime(path),
            "in_use": in_use,
        }
        for key, path, in_use in Environments(root).listed()
    ]
    busy, shared = _agents_in_use(), _shares_agents(root)
    agents = [
        {
            "agent": name,
            "bytes": tree.disk_use(path, seen, going_on),
            "in_use": shared or name in busy,
        }
        for name, path in _entries(os.path.join(root, "agent"))
        if _AGENT.match(name)
    ]
    disk = os.statvfs(root)
    return {
        "free": disk.f_bavail * disk.f_frsize,
        "code": code[:MOST],
        "runs": runs[:MOST],
        "agents": agents[:MOST],
        "envs": envs[:MOST],
        "images": ImageStore(root, going_on).kept()[:MOST],
        "data": data_places.disk_use(os.path.join(root, "data"), seen, going_on),
        "stubs": len(_stubs()),
    }


def prune(
    root: str,
    runs: list[str],
    code: list[list[str]],
    agents: list[str],
    stubs: bool,
    envs: Sequence[str] = (),
    images: Sequence[str] = (),
) -> list[str]:
    """Delete runs without a supervisor, versions of code, environments and images that no run uses, and
    agents that no process uses; return the names of what is in use and stays."""
    from ..processes import cgroup

    kept = []
    for name in runs:
        path = os.path.join(root, "runs", name)
        if not run_lock.is_run_name(name) or run_lock.is_alive(path):
            kept.append(name)
            continue
        cgroup.end(path)
        tree.remove(path)
    for source, version in code:
        if _CODE.match(source) and _VERSION.match(version) and not version.startswith("."):
            tree.remove(os.path.join(root, "code", source, version))
            _remove_empty(os.path.join(root, "code", source))
    built = Environments(root)
    built.clear()
    kept += [key for key in envs if not built.remove(key)]
    if images:
        store = ImageStore(root)
        kept += [key for key in images if not store.prune(key)]
    busy, shared = _agents_in_use(), _shares_agents(root)
    for name in agents:
        if _AGENT.match(name) and name not in busy and not shared:
            tree.remove(os.path.join(root, "agent", name))
        else:
            kept.append(name)
    for path in _stubs() if stubs else ():
        _remove_stub(path)
    return kept


def _entries(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            yield name, path


def _versions(root: str) -> Iterator[tuple[str, str, str]]:
    for source, folder in _entries(os.path.join(root, "code")):
        for version, path in _entries(folder):
            if _CODE.match(source) and _VERSION.match(version):
                yield source, version, path


def _remove_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass  # other versions are there


def _shares_agents(root: str) -> bool:
    """Return whether other machines may run these agents, too: they share this home."""
    return os.path.islink(os.path.join(root, "agent")) or os.path.isdir(os.path.join(root, OTHERS))


def _agents_in_use() -> set[str]:
    """Return the agents that processes of this user run, this one among them."""
    here = os.path.abspath(__file__)
    found = {os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(here))))}
    for pid in processes.table():
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                command = os.fsdecode(file.read(1 << 16))
        except OSError:
            continue
        found.update(re.findall(r"/agent/(agent-[0-9a-f]+)", command))
    return found


def _stubs() -> list[str]:
    """Return this user's lock files of launcher 0.1, which nothing writes any more."""
    folder = os.environ.get("LAUNCHER_LEASE_DIR") or "/var/tmp/launcher-leases"
    found: list[str] = []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return found
    for name in names:
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
        except OSError:
            continue
        is_plain = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
        if is_plain and re.match(r"gpu-\d+\Z", name):
            found.append(path)
    return found


def _remove_stub(path: str) -> None:
    """Remove a lock file, unless somebody holds the lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        pass
    finally:
        os.close(fd)
