"""Runs commands in turn and compares them pairwise: no machine is equally fast twice.

Not responsible for what is run. A result is a ratio of two commands of the same round; nothing here
passes or fails by a clock. `limit` only ends a command that hangs.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar


class Circumstances:
    """When and where something was measured, and beside what: numbers say little without."""

    def __init__(self) -> None:
        self._began = datetime.datetime.now()
        self._load = os.getloadavg()[0]
        self._commit = _commit()  # a later one is not what runs

    def __str__(self) -> str:
        now = datetime.datetime.now()
        return (
            f"{self._began:%Y-%m-%d %H:%M}, commit {self._commit}; {_machine()}; load {self._load:.1f} at the "
            f"beginning and {os.getloadavg()[0]:.1f} at the end, {(now - self._began).seconds} s later."
        )


def _machine() -> str:
    """Return processors, memory, system and Python of this machine, on which all hosts are, too."""
    model = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).partition(":")[2]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = ""
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    words = [
        f"{os.cpu_count()} cores ({model.strip()}), {memory:.0f} GiB",
        system,
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        ssh.partition(",")[0].strip(),
    ]
    return ", ".join(filter(None, words))


def _commit() -> str:
    root = Path(__file__).parent.parent
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "?"


class CommandError(Exception):
    """A command under test did not do its work: its time would mean nothing."""


@dataclass(frozen=True)
class Sample:
    """One command from start to end: seconds of wall clock, of CPU in its whole process tree here
    (user and system), of CPU on all hosts, and its largest process in MiB."""

    wall: float
    cpu: float = 0.0
    rss: float = 0.0
    hosts: float = 0.0


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    out: IO[bytes] | None = None,
    limit: float = 180.0,
) -> Sample:
    """Runs a command to its end. Raises CommandError with its last words, on stdout and stderr: a check
    tells what it has found on stdout."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        started = time.perf_counter()
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out or said,
            stderr=complaints,
            start_new_session=True,
        )
        timer = threading.Timer(limit, os.killpg, (child.pid, signal.SIGKILL))
        timer.daemon = True  # who breaks a benchmark off does not wait for it
        timer.start()
        # wait4 counts this child and every descendant that was waited for: ssh and rsync are in.
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        timer.cancel()
        child.returncode = code = os.waitstatus_to_exitcode(status)
        if code != 0:
            words = _end_of(said) + _end_of(complaints)
            raise CommandError(f"exit {code} after {wall:.1f} s of {' '.join(argv)}: {words}")
    return Sample(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _end_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")[-4000:]


S = TypeVar("S", bound=Sample)


def race(
    contenders: Mapping[str, Callable[[], S]], rounds: int, warm: int = 1
) -> dict[str, list[S]]:
    """Every contender once a round, so that noise meets all; each round begins with another one.

    A contender that fails is said and left out. The first ``warm`` rounds do not count.
    """
    names = list(contenders)
    samples: dict[str, list[S]] = {name: [] for name in names}
    for number in range(warm + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if name not in samples:
                continue
            try:
                sample = contenders[name]()
            except CommandError as failure:
                print(f"{name}: left out: {failure}", file=sys.stderr)
                del samples[name]
                continue
            if number >= warm:
                samples[name].append(sample)
    return samples


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """``median (least-most)``."""
    least, most = min(values), max(values)
    return f"{statistics.median(values):{form}} ({least:{form}}-{most:{form}})"


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample], what: str = "wall") -> list[float]:
    """Ours over theirs, round by round."""
    return [getattr(a, what) / getattr(b, what) for a, b in zip(ours, theirs, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparison(samples: Mapping[str, list[Sample]], ours: str = "launcher") -> list[list[str]]:
    """A row for each contender: its name, then what `COMPARISON` says."""
    mine = samples.get(ours, [])
    return [
        [
            name,
            spread([s.wall for s in theirs]),
            "1" if name == ours or not mine else spread(ratios(mine, theirs)),
            spread([s.cpu for s in theirs]),
            "1" if name == ours or not mine else spread(ratios(mine, theirs, "cpu")),
            spread([s.hosts for s in theirs]),
        ]
        for name, theirs in samples.items()
    ]


COMPARISON = ["wall, s", "launcher / it", "CPU here, s", "launcher / it", "CPU on all hosts, s"]
