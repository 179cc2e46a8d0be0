"""One round of chaos: real hosts, a run on them, and what was done to them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from support import ROOT
from support import lab as labs

#: Twice the GPUs of a run: two have room beside each other.
SPECS = tuple(labs.HostSpec(f"h{n}", interface=f"eth{n}", gpus=4, home_size="30M") for n in (1, 2))
#: The environment that runs this, with torch: read-only on every host.
SHARE = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
#: Seconds that training takes, and within which a fault comes; and the same in a light round.
TRAINING, LIGHT = 6.0, 3.0
#: Seconds after which an unreachable host is given up, and after which it stops its run on its own.
ORPHAN_SECONDS = 10
LOST_AFTER, ORPHAN_TIMEOUT = "12s", f"{ORPHAN_SECONDS}s"

TRAIN = """
import os, pathlib, sys, time
rank, seconds, light = int(os.environ["RANK"]), float(sys.argv[1]), len(sys.argv) > 2
outputs = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
step = 0
if not light:
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    weights = torch.zeros(1000)
print("started", flush=True)
end = time.monotonic() + seconds
while True:
    if not light:
        more = torch.tensor(float(time.monotonic() < end))
        dist.broadcast(more, 0)
        if not more:
            break
        gradient = torch.randn(1000)
        dist.all_reduce(gradient)
        weights += gradient
    elif time.monotonic() > end:
        break
    step += 1
    print("rank", rank, "step", step, "x" * 50, flush=True)
    if step % 20 == 0:
        (outputs / f"checkpoint-{rank}.txt").write_text(str(step))
    time.sleep(0.02)
if not light:
    dist.destroy_process_group()
print("done", step)
"""


@dataclass
class Round:
    """The state of a round. ``process`` is the launcher of the run that the fault strikes."""

    lab: labs.Lab
    scratch: Path
    dice: random.Random
    light: bool
    began: float = field(default_factory=time.time)
    process: subprocess.Popen[bytes] | None = None
    other: subprocess.Popen[bytes] | None = None  # of a run beside it
    gone: set[str] = field(default_factory=set)  # hosts that do not come back in time
    back: set[str] = field(default_factory=set)  # hosts that came back after all
    stopped: set[str] = field(default_factory=set)  # runs that somebody stopped
    impatient: bool = False  # Ctrl-C was pressed twice: outputs are given up
    failing: str | None = None  # the host on which a rank was killed
    head: int = 0  # bytes of the screen that are read, where not all of them are
    reader: subprocess.Popen[bytes] | None = None
    wrong: list[str] = field(default_factory=list)  # what a fault found by itself
    frozen: int | None = None  # a process of the host that is stopped
    undo: list[Callable[[], object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host = self.dice.choice([self.lab.hosts[name] for name in sorted(self.lab.hosts)])
        (self.scratch / "work").mkdir(parents=True)
        (self.scratch / "work" / "train.py").write_text(TRAIN)
        (self.scratch / "inventory.yaml").write_text(labs.inventory(self.lab, sys.executable))
        self.home.mkdir()

    @property
    def training(self) -> float:
        """Seconds that training takes."""
        return LIGHT if self.light else TRAINING

    @property
    def home(self) -> Path:
        """The launcher's home."""
        return self.scratch / "home"

    @property
    def folders(self) -> list[Path]:
        """The folders of all runs, the oldest first."""
        return sorted((self.home / "runs").glob("*"), key=lambda path: path.stat().st_ctime_ns)

    @property
    def environment(self) -> dict[str, str]:
        """A user's environment, with the launcher's home in the round's folder."""
        return {**os.environ, "LAUNCHER_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def run(self, *options: str, longer: float = 0.0) -> subprocess.Popen[bytes]:
        """Start ``launcher run``; it trains ``longer`` seconds than ``training``."""
        seconds = self.training + longer
        argv = [sys.executable, "-m", "launcher", "run", "-i", "../inventory.yaml", "--gpus", "4"]
        argv += ["--nodes", "2", "--framework", "torch", "--grace", "2s", "--pull-every", "2s"]
        argv += ["--lost-after", LOST_AFTER, "--orphan-timeout", ORPHAN_TIMEOUT, *options]
        argv += ["train.py", str(seconds)]
        with self._screen() as screen:
            return subprocess.Popen(
                argv + (["light"] if self.light else []),
                cwd=self.scratch / "work",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
            )

    def _screen(self) -> IO[bytes]:
        """Where a launcher writes: a file, or a pipe to a reader that leaves early."""
        file = open(self.scratch / "screen", "ab")  # noqa: SIM115
        if not self.head:
            return file
        with file:
            words = ["head", "-c", str(self.head)]
            self.reader = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=file)
            assert self.reader.stdin
            return self.reader.stdin

    def until_training(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until all ranks of the newest run train. Raise LabError if its launcher fails."""
        known = len(self.folders)

        def started() -> bool:
            if process.poll():
                raise labs.LabError((self.scratch / "screen").read_text())
            folders = self.folders[-1:]
            logs = [log for folder in folders for log in folder.glob("logs/attempt-0/rank-?.out")]
            return len(logs) == 4 and all(b"started" in log.read_bytes() for log in logs)

        labs.wait_until(lambda: len(self.folders) >= max(1, known) and started(), "training", 90)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            cwd=self.scratch / "work",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def pids(self, wanted: Callable[[labs.Process], bool]) -> list[int]:
        """Return processes of the host that the fault strikes."""
        return [process.pid for process in self.host.processes() if wanted(process)]

    def kill(self, pids: list[int]) -> None:
        """Kill processes of that host with SIGKILL."""
        if pids:
            self.host.run("kill", "-9", *map(str, pids), check=False)

    def heal(self) -> None:
        """Undo everything: hosts up and plugged in, no loss, no limit, room on disks."""
        for host in self.lab.hosts.values():
            if host.is_off:
                host.boot()
                continue
            host.plug()
            host.loss(0)
            host.slow(0)
            host.run("rm", "-f", "/root/ballast")
        while self.undo:
            self.undo.pop()()

    def end(self) -> None:
        """Leave no process and no fault, whatever became of the round."""
        for process in (self.process, self.other, self.reader):
            if process:
                process.kill()
                process.wait()
        self.heal()
