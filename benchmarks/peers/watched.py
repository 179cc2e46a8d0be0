"""A command that runs while others watch: what it says and when, how it ends, and what it spent."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..measure import CommandError


class Watched:
    """A command from its start. Its stdout and stderr are one stream, as on a terminal."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._argv = argv
        self._lines: list[tuple[float, str]] = []
        self._ended = threading.Event()
        self.code = 0
        #: Seconds from its start to its end, and its CPU with that of all it waited for.
        self.wall = self.cpu = 0.0
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._reap, daemon=True).start()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe:
            for line in pipe:
                self._lines.append((self._now(), line.decode(errors="replace")))

    def _reap(self) -> None:
        _, status, used = os.wait4(self._process.pid, 0)
        self.wall = self._now()
        self.cpu = used.ru_utime + used.ru_stime
        self._process.returncode = self.code = os.waitstatus_to_exitcode(status)
        self._ended.set()

    def _now(self) -> float:
        return time.perf_counter() - self._began

    @property
    def has_ended(self) -> bool:
        """Whether it has, whatever it has left behind."""
        return self._ended.is_set()

    def succeed(self, limit: float) -> None:
        """Wait for its end. Raise CommandError, with its last words, if it fails or takes longer."""
        if not self._ended.wait(limit):
            raise self.failure(f"no end within {limit:.0f} s")
        # Who has left something that holds the pipe does not end it.
        self._reader.join(1.0)
        if self.code:
            raise self.failure(f"exit {self.code} after {self.wall:.1f} s")

    def failure(self, what: str) -> CommandError:
        """Return an error with its last words."""
        return CommandError(f"{what}:\n{' '.join(self._argv)}\n{self.text()[-3000:]}")

    def text(self) -> str:
        """Return all that it has said so far."""
        return "".join(line for _, line in self._lines)

    def first(self, pattern: str) -> float | None:
        """Return the seconds from the start to the first line with this in it."""
        return next((when for when, line in self._lines if re.search(pattern, line)), None)

    def kill(self) -> None:
        """Kill the program itself and nothing else, as the kernel does when memory runs out.

        Of one that was entered into a host, that is the child of `nsenter`.
        """
        pid = self._process.pid
        if Path(self._argv[0]).name == "nsenter":
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_marked(mark: str, value: str) -> None:
    """Kill what has this in its environment: on this machine, and on hosts of a lab that is on it."""
    wanted = f"{mark}={value}".encode()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                os.kill(int(entry), signal.SIGKILL)
