"""Runs that wait for GPUs on the hosts of a lab, and what they were told."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import journals
from . import lab as labs
from .command import Launcher, kill_follower

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
#: What a host sends to all its processes before it reboots.
TERMINATE_HOLDER = KILL_HOLDER.replace(", 9)", ", 15)")
#: Takes a GPU without waiting for its turn, as a program of an earlier version would.
TAKE = rb"""
import socket, time
held = socket.socket(socket.AF_UNIX)
held.bind("\0launcher/gpu/0")
held.listen()
open("/tmp/taken", "w").close()
time.sleep(1000)
"""
#: A setup that lasts until somebody writes /tmp/setup-go there.
LONG_SETUP = "touch /tmp/in-setup; while [ ! -e /tmp/setup-go ]; do sleep 0.05; done"
#: All ranks meet at the master, and say where they are and what they have.
MEET = """
import os, socket, sys, time
rank, size = int(os.environ["LAUNCHER_NODE_RANK"]), int(sys.argv[1])
address = sys.argv[2], int(sys.argv[3])
print(rank, "of", size, "has", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
if rank == 0:
    with socket.create_server(("", address[1])) as listener:
        for _ in range(size - 1):
            listener.accept()[0].sendall(b"met")
else:
    until = time.time() + 180
    while True:
        try:
            with socket.create_connection(address) as line:
                print(line.recv(3).decode())
            break
        except OSError:
            assert time.time() < until
            time.sleep(0.05)
"""
MEETING = "python3 meet.py {{num_nodes}} {{master_addr}} {{master_port}}"
FRAMEWORK = ("--framework", "env")


class Queue:
    """Runs on the hosts of a lab, each with its standard error in a file."""

    def __init__(self, lab: labs.Lab, launcher: Launcher) -> None:
        launcher.inventory.write_text(labs.inventory(lab, "python3"))
        launcher.script(HOLD, "hold.py")
        launcher.script(MEET, "meet.py")
        self.lab, self.launcher = lab, launcher
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *words: str, command: str = "") -> subprocess.Popen[bytes]:
        """Start a run that waits if it must."""
        wait = () if "--no-wait" in words else ("--wait", "forever")
        options = (*wait, "--name", name, *FRAMEWORK)
        process = self.launcher.start(*options, *words, command or f"python3 hold.py {name}")
        self.started.append(process)
        return process

    def occupy(self, hosts: Iterable[str], gpus: int = 2) -> None:
        """Start a run on each of these hosts, called on-HOST, that has as many GPUs until it is let go."""
        for host in hosts:
            self.start(f"on-{host}", "--gpus", str(gpus), "--hosts", host)
        for host in hosts:
            self.until(f"on-{host}", "AllStarted")

    def detached(self, name: str, *words: str, where: str, command: str = MEETING) -> Path:
        """Start a run that waits ``where`` hosts start it, and kill its follower once they can do without;
        return its folder."""
        done = self.launcher.call(
            "run", "-i", str(self.launcher.inventory), "-d", "--name", name, "--wait", "forever",
            *FRAMEWORK, *words, command,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"waits for its turn on {where}" in done.stderr, done.stderr
        (folder,) = self.launcher.home.glob(f"runs/{name}-*")
        self.until_met(name, everywhere="--project" in words)
        kill_follower(folder)
        return folder

    def until_met(self, name: str, everywhere: bool = False) -> None:
        """Wait until each host with a ticket of a run that waits has heard of the one that leads that they
        have met, and its launcher holds none; with ``everywhere``, until all other hosts decide with them."""
        on = [host for host in self.lab.hosts if not self.lab.hosts[host].is_off]

        def have() -> bool:
            tickets = {host: self.tickets(host, name) for host in on}
            others = [host for host in on if not tickets[host]] if everywhere else []
            said = [one for some in tickets.values() for one in some]
            met = bool(said) and all("s" in one for one in said)
            return met and all(self.is_witness(host, name) for host in others)

        labs.wait_until(have, f"{name} needs no launcher", 60)

    def tickets(self, host: str, name: str) -> list[list[str]]:
        """Return what the tickets of a run on a host say by a letter: "s", its hosts start it; "a", it holds
        nobody back."""
        found = re.findall(rf"@launcher/wait/{name}-[^/\s]+/(\S+)", self.sockets(host))
        return [one.split(".")[6:] for one in found]

    def is_witness(self, host: str, name: str) -> bool:
        """Return whether a host decides about a run, and is in touch with the one that leads it."""
        there = self.lab.hosts[host]
        named = re.escape(f"@launcher/witness/{name}-")
        holders = re.findall(rf"{named}.*?pid=(\d+)", there.run("ss", "-Hxlp").stdout.decode())
        lines = there.run("ss", "-Htnp", "state", "established").stdout.decode()
        return any(f"pid={pid}," in lines for pid in holders)

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

    def journal(self, host: str, run: str) -> list[dict[str, Any]]:
        """Return what a host has recorded of a run; nothing where nothing is left of it."""
        there = f"/root/.launcher/host/runs/{run}/journal.jsonl"
        try:
            return journals.lines(self.lab.hosts[host].read(there))
        except labs.LabError:
            return []

    def recorded(self, host: str, run: str) -> list[str]:
        """Return the kinds of these events."""
        return [one["event"] for one in self.journal(host, run)]

    def until_there(self, host: str, run: str, event: str) -> dict[str, Any]:
        """Wait until a host has recorded an event, and return the last one."""
        found: list[dict[str, Any]] = []

        def has() -> bool:
            found[:] = [one for one in self.journal(host, run) if one["event"] == event]
            return bool(found)

        labs.wait_until(has, f"{event} of {run} on {host}", 60)
        return found[-1]

    def sockets(self, host: str) -> str:
        """Return the names of the sockets that are held on a host."""
        return self.lab.hosts[host].run("cat", "/proc/net/unix").stdout.decode()

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
        """Let runs end, on all hosts that have power."""
        for host in (one for one in self.lab.hosts.values() if not one.is_off):
            for name in names:
                host.write(f"/tmp/{name}", b"")

    def close(self) -> None:
        """End all runs."""
        for process in self.started:
            process.kill()
            process.communicate()
