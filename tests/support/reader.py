"""A reader who types what a page shows: a home, a folder with files, and hosts that ssh knows by name."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support import ROOT
from support.lab_spec import PATIENCE, LabError, wait_until
from support.own_home import at_home
from support.terminal import Terminal

#: Ends each command: what it exported holds for those after it.
_STATE = """. "$STATE" 2>/dev/null; {command}
code=$?; { export -p; echo "cd '$PWD'"; } >"$STATE"; exit $code"""


@dataclass
class Reader:
    """Type commands in a folder; ``said`` is all that was shown so far."""

    home: Path
    work: Path
    said: list[tuple[str, str]] = field(default_factory=list)
    #: Names of runs, in the order in which they began.
    runs: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return an environment of few variables, as a login has."""
        own = Path(sys.prefix) / "bin"
        return {
            "PATH": f"{self.home}/bin:{own}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "STATE": str(self.home / "state"),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            "USER": "root",
            # Whatever a page installs: nothing from an index, and not for the tests.
            "PIP_NO_INDEX": "1",
            "PIP_TARGET": str(self.home / "site"),
        }

    def argv(self, command: str) -> list[str]:
        """Return what runs a command line in a shell, with the home of this reader."""
        return at_home(self.home, ["/bin/bash", "-c", _STATE.replace("{command}", command)])

    def type(self, command: str, seconds: float = 40) -> int:
        """Run a command line to its end, without a terminal; return its exit code, or -1 without end."""
        # A file, because a process that stays in the background would hold a pipe open.
        with open(self.home / "screen", "w+b") as screen:
            typing = subprocess.Popen(
                self.argv(command),
                cwd=self.work,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
            )
            try:
                code = typing.wait(PATIENCE * seconds)
            except subprocess.TimeoutExpired:
                typing.kill()
                typing.wait()
                code = -1
            screen.seek(0)
            self._keep(command, screen.read().decode("utf-8", "replace"))
        return code

    def talk(self, command: str, dialogue: Sequence[tuple[str, str]]) -> int:
        """Run a command at a terminal: wait for each text, then press keys. Return its exit code, or -1
        when it never showed a text."""
        env = {**self.environment(), "TERM": "xterm"}
        with Terminal(self.argv(command), self.work, env, columns=140) as terminal:
            try:
                for text, keys in dialogue:
                    terminal.expect(text, PATIENCE * 20)
                    terminal.press(keys)
                code = terminal.end()
            except AssertionError:
                os.kill(terminal.pid, signal.SIGKILL)
                os.waitpid(terminal.pid, 0)
                code = -1
        # What was written over a line is a line, too.
        seen = re.sub(r"\r|\x1b\[[2J]?K", "\n", terminal.seen.decode("utf-8", "replace"))
        self._keep(command, seen)
        return code

    def run(self, name: str) -> str:
        """Return the newest run of a name."""
        return next(
            one for one in reversed(self.runs) if re.fullmatch(rf"{name}-[0-9a-f]{{4}}", one)
        )

    def _keep(self, command: str, shown: str) -> None:
        """Note what was shown, and which runs are new."""
        self.said.append((command, shown))
        folder = self.home / ".launcher" / "runs"
        names = os.listdir(folder) if folder.exists() else []
        self.runs += sorted(set(names) - set(self.runs))

    def end_all(self) -> list[str]:
        """End what this reader has left in the background; return it.

        Embedded hosts end a moment after the run that started them.
        """
        with suppress(LabError):
            wait_until(lambda: not self._left(), "nothing in the background", 5)
        left = self._left()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return list(left.values())

    def _left(self) -> dict[int, str]:
        """Return the processes with this home: their command lines by pid."""
        mark, left = f"HOME={self.home}".encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    left[int(process.name)] = words.decode("utf-8", "replace").strip()
        return {pid: words for pid, words in left.items() if words}
