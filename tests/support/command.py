"""The `launcher` command as a user calls it, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from support import ROOT
from support import lab as labs
from support.lab_spec import PATIENCE
from support.terminal import Terminal


@dataclass
class Ran:
    """What `launcher run` leaves for its user."""

    code: int
    out: str
    err: str
    home: Path

    @property
    def folder(self) -> Path:
        """The run's folder; there must be one."""
        (folder,) = (self.home / "runs").iterdir()
        return folder

    @property
    def receipt(self) -> dict[str, Any]:
        """The receipt on disk."""
        value: dict[str, Any] = json.loads((self.folder / "receipt.json").read_text())
        return value

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """The receipts of all runs so far, the oldest first."""
        found = [json.loads(f.read_text()) for f in (self.home / "runs").glob("*/receipt.json")]
        return sorted(found, key=lambda receipt: float(receipt["started"]))

    def log(self, name: str, attempt: int = 0) -> bytes:
        """Return one rank's log, as it is here."""
        return (self.folder / "logs" / f"attempt-{attempt}" / name).read_bytes()


class Started(subprocess.Popen[bytes]):
    """A command that runs, and is waited for with patience."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(None if timeout is None else PATIENCE * timeout)

    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes, bytes]:
        return super().communicate(input, None if timeout is None else PATIENCE * timeout)


@dataclass
class Launcher:
    """Call the command line in a process of its own, in a work folder of its own."""

    inventory: Path
    work: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return a user's environment, with launcher's home in the test's folder."""
        own = {"LAUNCHER_HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config")}
        return {**os.environ, **own, "PYTHONPATH": str(ROOT), **self.env}

    def argv(self, *words: str) -> list[str]:
        """Return ``launcher run -i INVENTORY words``."""
        return [sys.executable, "-m", "launcher", "run", "-i", str(self.inventory), *words]

    def run(self, *words: str, timeout: float = 90, within: Sequence[str] = ()) -> Ran:
        """Run to the end; ``within`` is a command that runs a command."""
        done = subprocess.run(
            [*within, *self.argv(*words)],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            timeout=PATIENCE * timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(), self.home)

    def start(self, *words: str, within: Sequence[str] = ()) -> Started:
        """Start a run, and return at once; output goes to pipes."""
        return Started(
            [*within, *self.argv(*words)],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(
        self, *words: str, timeout: float = 60, stdin: int | IO[str] = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[str]:
        """Run any ``launcher`` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            cwd=self.work,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE * timeout,
            stdin=stdin,
        )

    def start_command(self, *words: str) -> Started:
        """Start any ``launcher`` command, and return at once; output goes to pipes."""
        return Started(
            [sys.executable, "-m", "launcher", *words],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def script(self, text: str, name: str = "train.py") -> str:
        """Write a script into the work folder; return its name."""
        file = self.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return name


def end_followers(folder: Path) -> None:
    """End followers of runs below a folder: those of hosts that are gone would look for them for days."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"launcher.runner.follower" in words and os.fsencode(f"{folder}/") in words[-2]:
                os.kill(int(process.name), signal.SIGKILL)


def of_runs(host: labs.LabHost) -> list[labs.Process]:
    """Return the processes of runs on a host."""
    return [process for process in host.processes() if "LAUNCHER_RUN_ID" in process.environ]


def follower(folder: Path) -> int:
    """Return the process that follows a run here."""
    return int((folder / "launcher.lock").read_text())


def kill_follower(folder: Path) -> None:
    """Kill the process that follows a run here."""
    os.kill(follower(folder), signal.SIGKILL)


def wait_for(
    path: Path, text: bytes, process: subprocess.Popen[bytes], seconds: float = 30
) -> None:
    """Wait until a file holds a text. Stop waiting when the process exits."""
    labs.wait_until(
        lambda: process.poll() is not None or (path.exists() and text in path.read_bytes()),
        f"{text!r} in {path}",
        seconds,
    )


def at_a_terminal(launcher: Launcher, *words: str, columns: int = 0) -> tuple[int, bytes]:
    """Run a command at a terminal; return its exit code, and all that it shows."""
    argv = [sys.executable, "-m", "launcher", *words]
    env = {**launcher.environment(), "TERM": "xterm"}
    with Terminal(argv, Path(launcher.work), env, columns) as terminal:
        return terminal.end(), terminal.seen
