"""The books of projects on this host: which runs may use how many GPUs in whose name, on all hosts.

A quota is decided on most hosts of an inventory, also where the run has no GPU and no process. There it
is a file. Each user writes into a folder of their own, which nobody else can change: the kernel knows
whose it is. A book outlives a power cut. Whether a run still lives, its own hosts say. See
docs/decisions/0066-projects.md.
"""

from __future__ import annotations

import binascii
import errno
import os
import stat

from ..base import lean, run_lock
from ..processes.processes import user_name
from . import projects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import BookFacts

#: Where the folders are: it survives a power cut, and its sticky bit keeps them their users'.
PLACE, PREFIX = "/var/tmp", "launcher-projects"
#: What is read at most: names in PLACE, folders of one user, runs of one folder and in all, and bytes of
#: a run. Nobody can crowd out the books of another user.
MOST_NAMES, MOST_FOLDERS, MOST_RUNS, MOST, MOST_BYTES = 1 << 16, 2, 256, 4000, 1 << 14
#: Names of hosts that one run names at most.
MOST_HOSTS = 256


def read() -> list[BookFacts]:
    """Return what the books of all users say, each with its user as the kernel knows it.

    Raises OSError where there is more than can be read: what is left out would not be counted.
    """
    found: list[BookFacts] = []
    of_user: dict[int, int] = {}
    for folder in _folders():
        try:
            owner = os.lstat(folder).st_uid
            of_user[owner] = of_user.get(owner, 0) + 1
            if of_user[owner] <= MOST_FOLDERS:
                found += _in_folder(folder)
        except OSError:  # it has just gone, or may not be read: it says nothing
            continue
    if len(found) > MOST:
        raise OSError(errno.E2BIG, "too many books of projects")
    return found


def write(run: str, project: str, gpus: int, preemptible: bool, hosts: list[str]) -> None:
    """Note in this user's book that a run uses GPUs. Raises OSError."""
    said = {"project": project, "gpus": gpus, "preemptible": preemptible, "hosts": hosts}
    folder = _own_folder()
    text = lean.dumps(said).encode()
    if len(text) > MOST_BYTES or not run_lock.is_run_name(run):
        raise OSError(0, "too much for a book")
    draft = os.path.join(folder, ".%s.%d" % (run, os.getpid()))
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask is
        os.write(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, os.path.join(folder, run))


def remove(run: str) -> None:
    """Forget a run of this user."""
    for folder in _folders():
        try:
            if run_lock.is_run_name(run) and os.lstat(folder).st_uid == os.getuid():
                os.unlink(os.path.join(folder, run))
        except OSError:
            pass


def _name() -> str:
    scope = os.environ.get("LAUNCHER_LOCK_SCOPE")  # of hosts that share a machine, as in a sandbox
    return "%s-%08x." % (PREFIX, binascii.crc32(os.fsencode(scope))) if scope else PREFIX + "."


def _folders() -> list[str]:
    """Return the folders of all users. Raises OSError where there is too much to look through."""
    start, found = _name(), []
    with os.scandir(PLACE) as there:
        for number, one in enumerate(there):
            if number == MOST_NAMES:
                raise OSError(errno.E2BIG, "too many files in %s" % PLACE)
            if one.name.startswith(start) and one.is_dir(follow_symlinks=False):
                found.append(os.path.join(PLACE, one.name))
    return sorted(found)


def _own_folder() -> str:
    """Return this user's folder; make it if there is none. Its name says nothing: anybody could."""
    for folder in _folders():
        try:
            known = os.lstat(folder)
        except OSError:
            continue
        if known.st_uid == os.getuid() and stat.S_IMODE(known.st_mode) == 0o755:
            return folder
    for _ in range(16):
        folder = os.path.join(PLACE, _name() + "%s" % os.urandom(6).hex())
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:
            continue
        os.chmod(folder, 0o755)
        return folder
    raise OSError(0, "no name is free in %s" % PLACE)


def _in_folder(folder: str) -> list[BookFacts]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(folder, flags | os.O_DIRECTORY)
    try:
        owner = os.fstat(fd)
        if stat.S_IMODE(owner.st_mode) & 0o022:  # others could have moved files into it
            return []
        found = []
        for run in sorted(os.listdir(fd))[:MOST_RUNS]:
            if not run_lock.is_run_name(run):
                continue
            try:
                entry = os.open(run, flags, dir_fd=fd)
            except OSError:
                continue
            try:
                known = os.fstat(entry)
                is_own = known.st_uid == owner.st_uid and known.st_nlink == 1
                if is_own and stat.S_ISREG(known.st_mode) and known.st_size <= MOST_BYTES:
                    said = _read(run, os.read(entry, MOST_BYTES))
                    if said is not None:
                        said["user"] = user_name(owner.st_uid)
                        found.append(said)
            finally:
                os.close(entry)
        return found
    finally:
        os.close(fd)


def _read(run: str, text: bytes) -> BookFacts | None:
    """Return what is written about a run; None for nonsense."""
    try:
        said: Any = lean.loads(text.decode())
        project, gpus, hosts = said["project"], said["gpus"], said["hosts"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not projects.is_project(project) or not isinstance(gpus, int) or isinstance(gpus, bool):
        return None
    if not 0 < gpus < projects.MOST_GPUS or not isinstance(hosts, list):
        return None
    if not 0 < len(hosts) <= MOST_HOSTS or not all(isinstance(one, str) for one in hosts):
        return None
    return {
        "project": project,
        "run": run,
        "user": "?",
        "gpus": gpus,
        "preemptible": said.get("preemptible") is True,
        "hosts": hosts,
    }
