"""Gives a run a control group of its own (cgroup v2), from which none of its processes can escape.

Where the host does not allow one, the run works without it. File names and rules are those of the
kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import binascii
import os
import time

from ..base import plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypedDict

    from ..base.messages import Limits

    class Leaf(TypedDict):
        """The control group of one process: its folder, and the limits that it enforces."""

        path: str
        holds: list[Literal["cpus", "memory"]]


#: The file beside a run's journal that lists the folders of its groups, written before they are made.
NAMES = "groups"
#: Prefix of a group's name; the run's name follows.
PREFIX = "launcher-"
#: Seconds for a group to become empty after its last process was killed.
EMPTY = 0.5


class Group:
    """The group of a run: a folder, with one below it for each process that we started."""

    def __init__(self, path: str) -> None:
        self.path = path

    def pids(self) -> list[int]:
        """Return all processes in it and below, but those of other pid namespaces."""
        found = []
        for folder in self._folders():
            found += [int(word) for word in (read(folder, "cgroup.procs") or "").split()]
        return [pid for pid in found if pid > 0]

    def kill(self) -> bool:
        """Kill all at once, forking ones too; return False where the kernel cannot (before 5.14)."""
        return write(self.path, "cgroup.kill", "1")

    def remove(self, seconds: float = EMPTY) -> bool:
        """Remove the group, once it is empty; return whether it is gone after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self._try_to_remove():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def leaf(self, name: str, wanted: Limits) -> Leaf | None:
        """Make a group for one process with the ``wanted`` limits; None where that is impossible.

        ``holds`` of the result names the limits that it enforces. Processes are in leaves only: a
        group that passes controllers down may have none of its own.
        """
        path = os.path.join(self.path, name)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError:
            return None
        holds: list[Literal["cpus", "memory"]] = []
        if wanted.get("cpus") and write(path, "cpu.max", "%d 100000" % (wanted["cpus"] * 100000)):
            holds.append("cpus")
        if wanted.get("memory") and write(path, "memory.max", str(wanted["memory"])):
            holds.append("memory")
            write(path, "memory.swap.max", "0")  # else it continues at the speed of a disk
        return {"path": path, "holds": holds}

    def oom_kills(self) -> int | None:
        """Return how many of its processes were killed for memory; None without that controller."""
        return _memory_events(self.path).get("oom_kill")

    def over_memory(self, name: str) -> int | None:
        """Return the limit in bytes of the leaf ``name``, if the kernel killed for exceeding it."""
        folder = os.path.join(self.path, name)
        most = read(folder, "memory.max") or ""
        counted = _memory_events(folder)
        went_over = counted.get("oom") and counted.get("oom_kill")
        return int(most) if went_over and most.strip().isdigit() else None

    def _folders(self) -> list[str]:
        return [folder for folder, _, _ in os.walk(self.path)]

    def _try_to_remove(self) -> bool:
        for folder in reversed(self._folders()):
            try:
                os.rmdir(folder)
            except OSError:
                pass
        return not os.path.isdir(self.path)


def _memory_events(folder: str) -> dict[str, int]:
    """Return ``{event: count}``; empty without the memory controller."""
    lines = (read(folder, "memory.events") or "").splitlines()
    return {name: int(count) for name, count in map(str.split, lines)}


def join(path: str) -> None:
    """Move this process, and all that it will start, into a group. Raises OSError."""
    with open(os.path.join(path, "cgroup.procs"), "w") as file:
        file.write("0")


def of(run_dir: str) -> list[Group]:
    """Return the groups that a run may have here; no other folder is ever killed or removed."""
    lines = (read(run_dir, NAMES) or "").splitlines()
    return [Group(line) for line in lines if os.path.basename(line).startswith(PREFIX)]


def end(run_dir: str) -> list[int]:
    """Kill what is in the groups of a run and remove them; return the pids that were there."""
    groups = of(run_dir)
    found = [pid for group in groups for pid in group.pids()]
    for group in groups:
        if not group.kill():
            _kill_each(group)
    _remove(run_dir, groups)
    return found


def close(run_dir: str) -> None:
    """Remove the groups of a run that has no process left."""
    _remove(run_dir, of(run_dir))


def _remove(run_dir: str, groups: list[Group]) -> None:
    left = [group for group in groups if not group.remove()]
    if groups and not left:
        _forget(run_dir)


def name_of(run_dir: str, run_id: str, host: str) -> str:
    """Return the name of a run's group; containers may share a hierarchy and have the same run ids."""
    return "%s%s-%08x" % (
        PREFIX,
        run_id,
        binascii.crc32(os.fsencode(host + os.path.abspath(run_dir))),
    )


def make(
    run_dir: str, run_id: str, host: str, wanted: set[str], places: list[list[str]] | None = None
) -> Group | None:
    """Make a :class:`Group` for a run, below our own; None where this host does not allow it.

    ``wanted`` are controllers. A folder above ours is used where only that has them: a group with
    processes in it cannot pass them down. ``places`` are lists of folders to try, nearest first.
    """
    name = name_of(run_dir, run_id, host)
    for chain in own_groups() if places is None else places:
        offering = [base for base in chain if wanted & _offered(base, wanted, base == chain[0])]
        offering.sort(key=lambda base: -len(wanted & _offered(base, wanted, False)))
        for base in offering + chain[:1]:
            group = _make(run_dir, os.path.join(base, name), bool(wanted))
            if group:
                for controller in wanted:
                    write(group.path, "cgroup.subtree_control", "+" + controller)
                return group
    return None


def own_groups(mounts: str | None = None, groups: str | None = None) -> list[list[str]]:
    """Return, for each cgroup2 mount, the folder of this process's group and those above it.

    ``mounts`` and ``groups`` are the texts of /proc/self/mountinfo and /proc/self/cgroup.
    """
    mounts = read("/proc/self", "mountinfo") or "" if mounts is None else mounts
    groups = read("/proc/self", "cgroup") or "" if groups is None else groups
    own = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    found: list[list[str]] = []
    if own is None:
        return found
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.split(" ")[0] != "cgroup2":
            continue
        root, point = (_plain(word) for word in fields.split(" ")[3:5])
        below = os.path.relpath(own, root)
        if ".." in own.split("/") or below.split("/")[0] == "..":
            continue  # our group is not visible there
        chain = [os.path.normpath(os.path.join(point, below))]
        while chain[-1] != point:
            chain.append(os.path.dirname(chain[-1]))
        found.append(chain)
    return found


def _plain(word: str) -> str:
    """Return a word of mountinfo without its octal escapes (proc(5))."""
    if "\\" not in word:
        return word
    import re  # slow to import

    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), word)


def _offered(base: str, wanted: set[str], enable: bool) -> set[str]:
    """Return the controllers of groups below ``base``; first ``enable`` those that are wanted."""
    if enable:  # in our own group only: others decide what they pass down
        offered = set((read(base, "cgroup.controllers") or "").split())
        for controller in wanted & offered:
            write(base, "cgroup.subtree_control", "+" + controller)
    return set((read(base, "cgroup.subtree_control") or "").split())


def _make(run_dir: str, path: str, has_limits: bool) -> Group | None:
    """Make the group at ``path``; None where that fails or another process has made it.

    A group that has to enforce limits is tried out, which takes about 10 ms.
    """
    known = [group.path for group in of(run_dir)]
    if not os.access(os.path.dirname(path), os.W_OK):
        return None
    try:
        if path not in known:
            _note(run_dir, known + [path])
        os.mkdir(path)
    except FileExistsError:
        if path in known:
            return Group(path)
        _note(run_dir, known)
        return None
    except OSError:
        _note(run_dir, [other for other in known if other != path])
        return None
    if not has_limits:
        return Group(path)
    trial = Group(path).leaf("trial", {})
    if trial and _can_join(trial["path"]):
        os.rmdir(trial["path"])
        return Group(path)
    if Group(path).remove(0.0):
        _note(run_dir, [other for other in known if other != path])
    return None


def _can_join(path: str) -> bool:
    """Return whether a fork can join: the rules are more than file modes."""
    pid = os.fork()
    if pid == 0:
        try:
            join(path)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _note(run_dir: str, paths: list[str]) -> None:
    """Write the names of groups atomically, so that no group exists without its name."""
    if not paths:
        _forget(run_dir)
        return
    path = os.path.join(run_dir, NAMES)
    with open(path + ".new", "w") as file:
        file.write("".join(line + "\n" for line in paths))
    os.rename(path + ".new", path)


def _forget(run_dir: str) -> None:
    try:
        os.unlink(os.path.join(run_dir, NAMES))
    except OSError:
        pass


def _kill_each(group: Group) -> None:
    deadline = time.monotonic() + EMPTY
    pids = group.pids()
    while pids and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        time.sleep(0.01)
        pids = group.pids()


def read(folder: str, name: str) -> str | None:
    try:
        return plain_files.content(os.path.join(folder, name)).decode("utf-8", "replace")
    except OSError:
        return None


def write(folder: str, name: str, text: str) -> bool:
    """Write ``text``; return whether the kernel accepted it."""
    try:
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
