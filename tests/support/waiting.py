"""Runs that wait for GPUs on the hosts of a lab, and what they were told."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from . import lab as labs
from .command import Launcher

#: Holds its GPUs until the file that its argument names is there.
HOLD = (
    "import os, pathlib, sys, time\n"
    "print('has', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
    "while not pathlib.Path('/tmp', sys.argv[1]).exists():\n    time.sleep(0.02)\n"
)
#: Kills the process that holds a socket of this name.
KILL_HOLDER = """
import glob, os, sys
(inode,) = {line.split()[6] for line in open("/proc/net/unix") if "/" + sys.argv[1] in line
            and line.split()[5] == "01"}
for fd in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(fd) == "socket:[%s]" % inode:
            os.kill(int(fd.split("/")[2]), 9)
    except OSError:
        pass
"""
FRAMEWORK = ("--framework", "env")


class Queue:
    """Runs on the hosts of a lab, each with its standard error in a file."""

    def __init__(self, lab: labs.Lab, launcher: Launcher) -> None:
        launcher.inventory.write_text(labs.inventory(lab, "python3"))
        launcher.script(HOLD, "hold.py")
        self.lab, self.launcher = lab, launcher
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *words: str, command: str = "") -> subprocess.Popen[bytes]:
        """Start a run that waits if it must."""
        wait = () if "--no-wait" in words else ("--wait", "forever")
        options = (*wait, "--name", name, *FRAMEWORK)
        process = self.launcher.start(*options, *words, command or f"python3 hold.py {name}")
        self.started.append(process)
        return process

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of the run of this name so far."""
        for file in self.launcher.home.glob(f"runs/{name}-*/events.jsonl"):
            lines = file.read_text().splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]  # one may be half
        return []

    def until(self, name: str, event: str) -> dict[str, Any]:
        """Wait until a run has had an event, and return the last of them."""
        found: list[dict[str, Any]] = []

        def has() -> bool:
            found[:] = [one for one in self.events(name) if one["event"] == event]
            return bool(found)

        labs.wait_until(has, f"{event} of {name}", 60)
        return found[-1]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask for the queue, or change it."""
        there = words[:1] == ("move",)
        named = () if there else ("-i", str(self.launcher.inventory))
        done = self.launcher.call("queue", *named, *words)
        assert done.returncode == 0, done.stderr
        return done

    def order(self) -> list[str]:
        """Return who waits, in the order of their turns."""
        return [
            one["run"].partition("-")[0]
            for one in json.loads(self.call("--json").stdout)["waiting"]
        ]

    def let_go(self, *names: str) -> None:
        """Let runs end."""
        for host in self.lab.hosts.values():
            for name in names:
                host.write(f"/tmp/{name}", b"")

    def close(self) -> None:
        """End all runs."""
        for process in self.started:
            process.kill()
            process.communicate()
