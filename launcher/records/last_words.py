"""Read the last output of a process: what failed, without the wrappers around it. Pure.

torchrun, MPI and others report at length that a process of theirs failed. What that process said
stands above.
"""

from __future__ import annotations

import re

from ..spec.patterns import pattern

_TRACEBACK = pattern(r"^.*Traceback \(most recent call last\)", re.M)
#: Exceptions with which a program reports that another one failed.
_WRAPPER = pattern(
    r"^(?:\[rank\d+\]:\s?)?(?:[\w.]+\.)?(?:ChildFailedError|SignalException|CalledProcessError)\b"
    r"|^\S+ProcessExitedException: process \d+ terminated with exit code",
    re.M,
)
#: Of which rank horovodrun, srun, torchrun or mpirun says that it failed, and how each marks a rank's
#: lines: the last three, where they are asked to (``--label``, ``--tee``, ``--tag-output``).
_MARKED = tuple(
    (pattern(says, re.M), pattern(mark + r"(?P<line>.*)$", re.M))
    for says, mark in (
        (
            r"Horovod detected that one or more processes exited(?s:.*)^Process name: (?P<rank>\d+)$",
            r"^\[(?P<rank>\d+)\]<std(?:out|err)>:",
        ),
        (
            r"^launcher: srun: task (?P<rank>\d+) on \S+ exited with \d+$",
            r"^(?P<rank>\d+): ",
        ),
        (
            r"ChildFailedError:(?s:.*)^Root Cause (?s:.*?)\(local_rank: (?P<rank>\d+)\)",
            r"^\[(?!rank\d)[^\s\]]*?(?P<rank>\d+)\]:",
        ),
        (
            r"^MPI_ABORT was invoked on rank (?P<rank>\d+) ",
            r"^\[\d+,(?P<rank>\d+)\]<std(?:out|err)>:",
        ),
    )
)
#: A mark that is nothing else, also where nobody says which rank failed.
_MPI_MARK = pattern(r"^\[\d+,\d+\]<std(?:out|err)>:", re.M)
#: What Hydra prints below each exception.
_HYDRA = pattern(
    r"^Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace\.\n?", re.M
)
#: What our srun prints below the last words of a task.
_SRUN = pattern(r"^launcher: srun: (?P<says>task \d+ on \S+ exited with \d+)(?:\n|\Z)", re.M)
#: A command that a shell prints before it runs it (``set -x``).
_TRACED = pattern(r"^\++ .*\n?", re.M)
#: What torchrun says of a rank that exited on its own or aborted, which then has said why above.
_EXITED = pattern(r"ChildFailedError:(?s:.*)^Root Cause (?s:.*?)^  exitcode  : (?:\d|-6\b)", re.M)
#: A rank that lost its peer: the one that failed has said why.
_CONSEQUENCE = pattern(
    r"Connection closed by peer|Connection reset by peer|remote process exited|HorovodInternalError"
)
#: What mpirun prints about ranks that ended.
_BANNER = pattern(
    r"^-{20,}\n(?:MPI_ABORT was invoked|Primary job +terminated|mpirun |mpiexec |prterun )", re.M
)
#: What torchrun and accelerate log about their ranks.
_LOGGED = pattern(
    r"^[EWI]\d{4} \S+ \d+ (?:\S*site-packages/)?torch/distributed/(?:elastic/|run\.py).*\n?", re.M
)
#: Frames of Java, which stand below the exception.
_JAVA_FRAME = pattern(r"^[ \t]+(?:at [\w.$/<>]+\([^()\n]*\)|\.\.\. \d+ more)\n?", re.M)


def essence(text: str) -> str:
    """Return the output without what wrappers said of it, and without frames of Java; unchanged if that
    is all there is."""
    text = _HYDRA.sub("", _JAVA_FRAME.sub("", text)) or text
    for says, mark in _MARKED:
        for failed in list(says.finditer(text))[-1:]:
            marked = mark.finditer(text, 0, failed.start())
            lines = [found["line"] for found in marked if found["rank"] == failed["rank"]]
            told = f"{failed[0]}\n" if "\n" not in failed[0] else ""
            text = "".join(f"{line}\n" for line in lines) + told if lines else text
    text = _MPI_MARK.sub("", text)
    banner = _BANNER.search(text)
    if banner and text[: banner.start()].strip():
        text = text[: banner.start()]
    starts = [match.start() for match in _TRACEBACK.finditer(text)]
    wrapped = False
    while len(starts) > 1:
        last = text[starts[-1] :]
        is_wrapper = bool(_WRAPPER.search(last))
        if not is_wrapper and not (wrapped and _CONSEQUENCE.search(last)):
            break
        wrapped = wrapped or is_wrapper
        text = text[: starts.pop()]
    if starts and _EXITED.search(text, starts[-1]):
        above = _LOGGED.sub("", text[: starts[-1]])
        return above if above.strip() else text
    return _LOGGED.sub("", text) if wrapped else text


def spoken(stderr: str, stdout: str) -> str:
    """Return the stream that says why a process failed: stderr, unless it says nothing, or the other one
    alone ends in a traceback, as that of a script with ``2>&1 | tee log.txt``."""
    said = _TRACED.sub("", stderr)
    if stdout.strip() and not said.strip():
        return stdout
    if not _TRACEBACK.search(said) and ends_in_traceback(essence(stdout)):
        return stdout
    return stderr


def ends_in_traceback(text: str) -> bool:
    """Return whether an exception that nobody caught is the last that a process printed."""
    text = _SRUN.sub("", _HYDRA.sub("", text))
    starts = [match.end() for match in _TRACEBACK.finditer(text)]
    if not starts:
        return False
    _, *lines = text[starts[-1] :].rstrip().split("\n")
    said = [line for line in lines if not line.startswith((" ", "\t"))]
    return len(said) == 1 and said[0] == lines[-1] and len(lines) > 1


def failed_tasks(text: str) -> list[str]:
    """Return what our srun said of tasks that failed: ``task 3 on gpu2 exited with 1``."""
    return [found["says"] for found in _SRUN.finditer(text)]


def headline(lines: list[str], most: int) -> list[str]:
    """Return so many last lines at most, after the first of a message that is longer."""
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    if not frames:
        return lines[-most:]
    message = next(
        (n for n in range(frames[-1], len(lines)) if not lines[n].startswith((" ", "\t"))),
        len(lines),
    )
    if len(lines) - message <= most:
        return lines[-most:]
    return [lines[message], *lines[-most:]]
