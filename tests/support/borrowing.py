"""Runs that borrow GPUs of another project on the hosts of a lab, and give them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import lab as labs
from .command import Launcher, kill_follower
from .waiting import Queue

#: One lends to the other, at once.
PROJECTS = """
projects:
  team-a: {quota: 4, users: [root]}
  team-b: {quota: 0, users: [root], min_runtime: 0s}
"""
BORROWS = ("--project", "team-b", "--preemptible")
OWNS = ("--project", "team-a")
#: Counts on from what its outputs say, and saves when it is asked to stop: for as long as a file is there.
COUNTS = """
import contextlib, os, pathlib, signal, sys, time
step = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "step.txt")
done = int(step.read_text()) if step.exists() else 0
def save(*_):
    with contextlib.suppress(OSError):  # a full disk
        part = step.with_suffix(".part")
        part.write_text(str(done + 7))
        part.replace(step)
    while pathlib.Path("/tmp/saves-long").exists():
        time.sleep(0.02)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("from step", done, "attempt", os.environ["LAUNCHER_ATTEMPT"], flush=True)
while not pathlib.Path("/tmp", sys.argv[1]).exists():
    time.sleep(0.02)
"""
ONE_OF_THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2 if n == 1 else 0) for n in (1, 2, 3))
TWO_OF_THREE = tuple(labs.HostSpec(f"gpu{n}", gpus=2 if n < 3 else 0) for n in (1, 2, 3))


@contextmanager
def lending(lab: labs.Lab, launcher: Launcher) -> Iterator[Queue]:
    """Yield hosts with projects, of which one lends to the other."""
    made = Queue(lab, launcher)
    launcher.inventory.write_text(launcher.inventory.read_text() + PROJECTS)
    launcher.script(COUNTS, "counts.py")
    try:
        yield made
    finally:
        made.close()


def witnesses(queue: Queue, name: str) -> list[str]:
    """Return on which hosts a run has a witness."""
    return [host for host in queue.lab.hosts if f"/witness/{name}-" in queue.sockets(host)]


def all_decide(queue: Queue, name: str) -> bool:
    """Return whether each host without GPUs of a run has a witness of it."""
    there = witnesses(queue, name)
    return all(one in there or f"gpu/0/{name}-" in queue.sockets(one) for one in queue.lab.hosts)


def until_attempt(queue: Queue, host: str, run: str, attempt: int) -> None:
    """Wait until a host has begun an attempt, which says so."""
    logs = f"/root/.launcher/host/runs/{run}/logs/attempt-{attempt}/*.out"
    there = queue.lab.hosts[host]

    def says() -> bool:
        return b"from step" in there.run("sh", "-c", f"cat {logs}", check=False).stdout

    labs.wait_until(says, f"attempt {attempt} on {host}", 60)


def borrower(queue: Queue, *words: str, before: str = "") -> Path:
    """Start a run that borrows, and kill its launcher once its hosts can do without, and an event was
    recorded ``before``; return its folder."""
    queue.start("lonely", *BORROWS, *words, command="python3 counts.py lonely")
    queue.until("lonely", "AllStarted")
    labs.wait_until(lambda: all_decide(queue, "lonely"), "its hosts have all they need", 30)
    if before:
        queue.until("lonely", before)
    (folder,) = queue.launcher.home.glob("runs/lonely-*")
    kill_follower(folder)
    return folder
