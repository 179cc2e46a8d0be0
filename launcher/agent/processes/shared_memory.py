"""Removes what the libraries of a run leave in /dev/shm, where it would stay until a reboot."""

from __future__ import annotations

import os
import stat

from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "/dev/shm"
#: Prefixes of segments that belong to one execution: Open MPI's (btl vader), NCCL's, CUDA's, UCX's,
#: Python's unnamed ones (multiprocessing.shared_memory) and glibc's semaphores. A data set that a
#: user keeps there has no such name.
OF_LIBRARIES = ("vader_segment.", "nccl-", "cuda.shm.", "ucx_shm_", "psm_", "sem.")
#: Seconds until the first look, and the longest pause between two.
FIRST_LOOK, LATEST = 1.0, 60.0
#: The shortest pause in seconds, however often a look is asked for.
SOONEST = 0.5
#: In the command line of processes that remove the shared memory of others once those are gone:
#: torch's, for the sharing strategy "file_system", and Python's.
CLEANERS = (b"torch_shm_manager", b"multiprocessing.resource_tracker")


class SharedMemory:
    """The segments that processes of a run have mapped, and that did not exist before the run."""

    def __init__(self, now: float, folder: str = FOLDER) -> None:
        self._folder = folder
        self._before = set(self._there())
        self._ours: set[int] = set()
        self._pause = FIRST_LOOK
        self._looked, self.next_look = float("-inf"), now + FIRST_LOOK

    def abandoned(self) -> dict[str, int]:
        """``{"segments": how many, "bytes": of memory}`` that no process here uses any more, whose ever
        they were. Torch's are in use while its helper lives, also those that nobody has mapped."""
        everybody = [pid for pid in processes.table() if processes.is_own(pid)]
        there = self._there(OF_LIBRARIES + (() if cleaners(everybody) else ("torch_",)))
        left = set(there)
        if left:
            left -= self._mapped(everybody) | self._opened(everybody)
        size = sum(_held(os.path.join(self._folder, there[inode])) for inode in left)
        return {"segments": len(left), "bytes": size}

    def look(self, now: float, pids: Iterable[int]) -> None:
        """Note which new segments these processes have mapped; read their maps only if there is one."""
        if now < self._looked + SOONEST:
            return
        self._pause = min(LATEST, 2 * self._pause)
        self._looked, self.next_look = now, now + self._pause
        new = set(self._there()) - self._before - self._ours
        if new:
            self._ours |= new & self._mapped(pids)

    def remove(self) -> list[str]:
        """Remove the segments that no process has mapped or open; return their names."""
        there = self._there()
        left = self._ours & set(there)
        if left:
            everybody = [pid for pid in processes.table() if processes.is_own(pid)]
            left -= self._mapped(everybody) | self._opened(everybody)
        removed = []
        for inode in left:
            try:
                os.unlink(os.path.join(self._folder, there[inode]))
                removed.append(there[inode])
            except OSError:
                continue
        return sorted(removed)

    def _there(self, beginnings: tuple[str, ...] = OF_LIBRARIES) -> dict[int, str]:
        """Return ``{inode: name}`` of segments of libraries that only this user can open."""
        found: dict[int, str] = {}
        try:
            self._device = os.stat(self._folder).st_dev
            names = [name for name in os.listdir(self._folder) if name.startswith(beginnings)]
        except OSError:
            return found
        for name in names:
            try:
                about = os.lstat(os.path.join(self._folder, name))
            except OSError:
                continue
            # Others may have mapped what they can read, and their maps are invisible to us.
            private = stat.S_ISREG(about.st_mode) and not about.st_mode & 0o077
            if private and about.st_uid == os.geteuid():
                found[about.st_ino] = name
        return found

    def _mapped(self, pids: Iterable[int]) -> set[int]:
        """Return the inodes of the folder that these have mapped (proc(5), /proc/PID/maps)."""
        device = b"%02x:%02x" % (os.major(self._device), os.minor(self._device))
        found: set[int] = set()
        for pid in pids:
            try:
                with open("/proc/%d/maps" % pid, "rb") as file:
                    lines = [line.split(None, 5) for line in file if device in line]
            except OSError:
                continue
            found.update(int(words[4]) for words in lines if words[3] == device)
        return found

    def _opened(self, pids: Iterable[int]) -> set[int]:
        found: set[int] = set()
        for pid in pids:
            folder = "/proc/%d/fd/" % pid
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                try:
                    about = os.stat(folder + name)
                except OSError:
                    continue
                if about.st_dev == self._device:
                    found.add(about.st_ino)
        return found


def _held(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0


def cleaners(pids: Iterable[int]) -> set[int]:
    """Return those that remove what the others leave, and exit on their own after them."""
    return {pid for pid in pids if any(word in _words(pid) for word in CLEANERS)}


def only_cleaners(pids: Iterable[int]) -> bool:
    """Return whether all of these are cleaners, or about to be gone: those have no command line."""
    return not [pid for pid in set(pids) - cleaners(pids) if _words(pid)]


def _words(pid: int) -> bytes:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read(4096)
    except OSError:
        return b""
