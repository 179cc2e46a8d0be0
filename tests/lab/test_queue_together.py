"""A run that needs all of several hosts is started by them together, whatever becomes of its launcher."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher
from support.waiting import FRAMEWORK, Queue

TWO = (labs.HostSpec("gpu1", gpus=4), labs.HostSpec("gpu2", gpus=4))
#: All ranks meet at the master, as those of a framework do, and say what they have.
MEET = """
import os, socket, sys, time
rank, size = int(os.environ["LAUNCHER_NODE_RANK"]), int(sys.argv[1])
address = sys.argv[2], int(sys.argv[3])
print(rank, "has", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
if rank == 0:
    with socket.create_server(("", address[1])) as listener:
        for _ in range(size - 1):
            listener.accept()[0].sendall(b"met")
else:
    until = time.time() + 60
    while True:
        try:
            with socket.create_connection(address) as line:
                print(line.recv(3).decode())
            break
        except OSError:
            assert time.time() < until
            time.sleep(0.05)
"""


@pytest.fixture
def queue(own: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Two hosts, all of whose GPUs the run "first" holds."""
    made = Queue(own, launcher)
    launcher.script(MEET, "meet.py")
    try:
        made.start("first", "--gpus", "8")
        made.until("first", "AllStarted")
        yield made
    finally:
        made.close()


MEETING = "python3 meet.py 2 {{master_addr}} {{master_port}}"


def detached(queue: Queue, name: str, *words: str, command: str = MEETING) -> Path:
    """Start a run that waits, and kill its follower; return its folder."""
    done = queue.launcher.call(
        "run", "-i", str(queue.launcher.inventory), "-d", "--name", name,
        *FRAMEWORK, *words, command,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "waits for its turn on gpu[1-2], which start it together" in done.stderr, done.stderr
    (folder,) = queue.launcher.home.glob(f"runs/{name}-*")
    os.kill(int((folder / "launcher.lock").read_text()), signal.SIGKILL)
    return folder


def journal(queue: Queue, host: str, run: str) -> list[dict[str, Any]]:
    """Return what a host has recorded of a run."""
    text = queue.lab.hosts[host].read(f"/root/.launcher/host/runs/{run}/journal.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def until(queue: Queue, host: str, run: str, event: str) -> dict[str, Any]:
    """Wait until a host has recorded an event, and return the last one."""
    found: list[dict[str, Any]] = []

    def has() -> bool:
        found[:] = [one for one in journal(queue, host, run) if one["event"] == event]
        return bool(found)

    labs.wait_until(has, f"{event} of {run} on {host}", 60)
    return found[-1]


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_they_begin_with_nobody_in_touch(queue: Queue) -> None:
    folder = detached(queue, "second", "--gpus", "8", "--wait", "forever")
    (first,) = queue.launcher.home.glob("runs/first-*")
    shown = json.loads(queue.call("--json").stdout)["waiting"]
    assert [(one["run"], one["by_itself"]) for one in shown] == [(folder.name, True)]
    queue.let_go("first")
    begun = [until(queue, host, folder.name, "BegunThere") for host in queue.lab.hosts]
    ended = [until(queue, host, first.name, "HostEnded") for host in queue.lab.hosts]
    assert max(one["time"] for one in begun) - max(one["time"] for one in ended) < 10
    attached = queue.launcher.call("attach", "second")
    assert attached.returncode == 0, attached.stderr
    lines = sorted(line.partition("│ ")[2] for line in attached.stdout.splitlines() if "│" in line)
    assert lines == ["0 has 0,1,2,3", "1 has 0,1,2,3", "met"]
