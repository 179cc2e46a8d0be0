"""The tasks of a step, and their streams: the files that ``--output`` and ``--input`` of srun name."""

from __future__ import annotations

import os
import re

from ..base import frames
from .slurm_options import Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Dict, List, Tuple

    from ..base.lean import Socket
    from .slurm_nodes import Node
    from .slurm_options import Options

#: Where a name of a file has a task's own value: ``%t``, or ``%4t`` with zeros in front.
_PLACE = re.compile(r"%([0-9]{0,2})([%AJNajnstux])")


class Task:
    """One task of a step: where it runs, and its variables."""

    def __init__(self, node: Node, rank: int, env: Dict[str, str]) -> None:
        self.node, self.rank, self.env = node, rank, env


class Outputs:
    """The files that srun's ``--output`` and ``--error`` name for its tasks. Raises Wrong.

    A file has what its tasks print; the log of the run keeps it, too. ``none`` and /dev/null have
    nobody print, and a number only that task.
    """

    def __init__(self, options: Options, tasks: Iterable[Task]) -> None:
        self._quiet: Dict[Tuple[int, int], bool] = {}
        self._files: Dict[Tuple[int, int], int] = {}
        opened: Dict[str, int] = {}
        mode = os.O_APPEND if options.get("open-mode") == "append" else os.O_TRUNC | os.O_APPEND
        out = options.get("output", "all")
        for task in tasks:
            for stream, said in ((1, out), (2, options.get("error", out))):
                place = task.rank, stream
                if said in ("none", os.devnull) or (said.isdigit() and int(said) != task.rank):
                    self._quiet[place] = True
                elif said != "all" and not said.isdigit():
                    path = named(said, task)
                    if path not in opened:
                        opened[path] = _opened(path, mode)
                    self._files[place] = opened[path]

    def write(self, task: Task, stream: int, lines: bytes) -> bool:
        """Write to the file of a task, if it has one; return whether the log has it, too."""
        file = self._files.get((task.rank, stream))
        while file is not None and lines:
            lines = lines[os.write(file, lines) :]
        return (task.rank, stream) not in self._quiet


def named(pattern: str, task: Task) -> str:
    """Return the name of a task's file, as the manual of srun has it under "filename pattern"."""
    job, step = os.environ.get("SLURM_JOB_ID", "0"), task.env["SLURM_STEP_ID"]
    values = {
        "%": "%", "A": os.environ.get("SLURM_ARRAY_JOB_ID", job), "j": job, "J": job + "." + step,
        "a": os.environ.get("SLURM_ARRAY_TASK_ID", "0"), "s": step, "t": str(task.rank),
        "n": task.env["SLURM_NODEID"], "N": task.node["name"],
        "u": os.environ.get("USER", ""), "x": os.environ.get("SLURM_JOB_NAME", ""),
    }  # fmt: skip

    def value(found: re.Match[str]) -> str:
        text: str = values[found.group(2)]
        width = int(found.group(1) or 0)
        return text.zfill(width) if text.isdigit() else text

    return _PLACE.sub(value, pattern)


def _opened(path: str, mode: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
    except OSError as error:
        raise Wrong("cannot write %s: %s" % (path, error.strerror))


class Source:
    """A file that tasks have as their standard input, all of them the same bytes.

    It is read as fast as the slowest of its tasks takes it: at most ``frames.WINDOW`` bytes are on
    their way to each.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._room: Dict[Socket, int] = {}
        self._over = False

    def is_wanted(self) -> bool:
        """Return whether all tasks that are left have room for more."""
        return not self._over and bool(self._room) and min(self._room.values()) > 0

    def add(self, line: Socket) -> None:
        """Have a task read this, from its beginning."""
        self._room[line] = frames.WINDOW

    def taken(self, line: Socket, size: int) -> None:
        """Note that a task took so many bytes, or has room for them as it closed its input."""
        if line in self._room:
            self._room[line] += size

    def drop(self, line: Socket) -> None:
        """Forget a task that has ended."""
        self._room.pop(line, None)

    def pass_on(self) -> None:
        """Read a piece, and send it to all tasks; what cannot be read has ended."""
        try:
            data = os.read(self.fd, min(frames.PIECE, *self._room.values()))
        except BlockingIOError:
            return
        except OSError:  # such as a terminal that another program is in front of
            data = b""
        self._over = not data
        for line in self._room:
            self._room[line] -= len(data)
            try:
                line.sendall(frames.frame(frames.INPUT, data))
            except OSError:
                pass  # its end is told by what is read from it


def sources(options: Options, tasks: List[Task], stdin: bool) -> Dict[int, Source]:
    """Return what tasks read, by rank, as srun's ``--input`` has it; the others read nothing.

    ``stdin``: whether our own standard input is open. Raises Wrong.
    """
    said = options.get("input", "all")
    if said == "none":
        return {}
    if said == "all" or said.isdigit():
        own = Source(0)
        found = {task.rank: own for task in tasks if said == "all" or task.rank == int(said)}
        if not found:
            raise Wrong("--input=%s: the step has tasks 0 to %d" % (said, len(tasks) - 1))
        return found if stdin else {}
    opened: Dict[str, Source] = {}
    for task in tasks:
        path = named(said, task)
        if path not in opened:
            try:
                opened[path] = Source(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                raise Wrong("cannot read %s: %s" % (path, error.strerror))
    return {task.rank: opened[named(said, task)] for task in tasks}
