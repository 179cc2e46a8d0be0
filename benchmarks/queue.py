"""From the end of a job to the start of the next one that waits, on one host with one GPU: by
launcher's queue, and by tools that people use there instead. And what a run that waits costs its host.

Each gets the same jobs, and each job writes when it begins and ends. The clock is one.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from .measure import CommandError, run, spread, table
from .place import Place, here_or_skipped, labs, place

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from support import slurm

#: Jobs of a round that wait for each other, and the seconds that one lasts.
JOBS, LASTS = 6, 0.5
#: Seconds for which a waiting run is watched.
WATCHED = 20.0
TIMES, GO = "/tmp/times", "/tmp/go"
#: The first one holds the GPU until all have been submitted.
JOB = (
    f"date +%s.%N >> {TIMES}; until test -e {GO}; do sleep 0.02; done; "
    f"sleep {LASTS}; date +%s.%N >> {TIMES}"
)

#: HyperQueue on PyPI is a library: a server with one worker of one core, and who gives it all jobs.
HQ = "/tmp/hq"
HQ_SERVER = f"""
import pathlib, signal
from hyperqueue.cluster import LocalCluster, WorkerConfig
with LocalCluster("{HQ}", WorkerConfig(cores=1)):
    pathlib.Path("{HQ}/ready").touch()
    signal.pause()
"""
HQ_SUBMITS = f"""
from hyperqueue import Client, Job
client = Client("{HQ}")
for _ in range({JOBS}):
    job = Job(default_workdir="/tmp")
    job.program(["bash", "-c", {JOB!r}], stdout=None, stderr=None)
    client.submit(job)
"""


def main(rounds: int) -> str:
    """The table: each beside launcher's of the same round."""
    with place([labs.HostSpec("lab1", gpus=1)]) as here:
        return _table(here, rounds)


def _table(here: Place, rounds: int) -> str:
    contenders = _contenders(here)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gaps = _gaps(here, contenders[name])
            if number:  # the first one warms up
                found[name].append(statistics.median(gaps))
    rows = [[name, spread(gaps, ".3f")] for name, gaps in found.items()]
    cpu = _waiting(here)
    return "\n".join(
        [
            table(["by", f"end to start, s (median of {JOBS - 1} a round)"], rows),
            "",
            f"- A run that waits costs its host {cpu:.1f} s of CPU an hour ({WATCHED:.0f} s watched).",
        ]
    )


def _contenders(here: Place) -> dict[str, Callable[[], object]]:
    """What submits all jobs and returns when they have been submitted."""
    (host,) = here.lab.hosts.values()
    found: dict[str, Callable[[], object]] = {"launcher": lambda: _launcher(here)}
    if here_or_skipped("tsp"):
        host.run("tsp", "-S", "1")
        found["task-spooler"] = lambda: _each(host, "tsp", "bash", "-c", JOB)
    if find_spec("hyperqueue") is None:
        print("hyperqueue: not installed in this environment, skipped", file=sys.stderr)
    else:
        host.spawn(sys.executable, "-c", HQ_SERVER)
        labs.wait_until(lambda: host.path(f"{HQ}/ready").exists(), "HyperQueue")
        submits = (sys.executable, "-c", HQ_SUBMITS)
        found["HyperQueue"] = lambda: host.run(*submits)
    if reason := slurm.missing():
        print(reason, file=sys.stderr)
    else:
        slurm.Slurm([host], cpus=1)
        wrap = ("sbatch", "--quiet", "--output=/dev/null", f"--wrap={JOB}")
        found["Slurm"] = lambda: _each(host, *wrap)
    return found


def _launcher(here: Place) -> None:
    """Detached, as whoever shuts his laptop starts them: the host itself starts one after the other."""
    words = ("--detach", "--gpus", "1", "--wait", "forever", "--framework", "env")
    for _ in range(JOBS):
        run(here.launcher(1, *words, JOB), env=here.env, cwd=here.empty)


def _each(host: labs.LabHost, *argv: str) -> None:
    for _ in range(JOBS):
        host.run(*argv)


def _gaps(here: Place, submit: Callable[[], object]) -> list[float]:
    """Seconds between the end of each job and the start of the next one."""
    (host,) = here.lab.hosts.values()
    host.run("rm", "-f", GO)
    host.write(TIMES, b"")
    submit()
    host.write(GO, b"")

    def moments() -> list[float]:
        return [float(line) for line in host.read(TIMES).decode().split()]

    labs.wait_until(lambda: len(moments()) == 2 * JOBS, "the end of all jobs", 180)
    found = moments()
    gaps = [start - end for end, start in zip(found[1:-1:2], found[2::2], strict=True)]
    if min(gaps) < 0:
        raise CommandError(f"two jobs had the GPU at once: {found}")
    return gaps


def _waiting(here: Place) -> float:
    """Seconds of CPU an hour of all that a waiting run has on its host."""
    words = ("--detach", "--gpus", "1", "--wait", "forever", "--framework", "env")
    run(here.launcher(1, *words, "sleep 600"), env=here.env, cwd=here.empty)
    alone = _spent(here)
    run(here.launcher(1, *words, "true"), env=here.env, cwd=here.empty)
    both = _spent(here)
    for folder in (here.home / "runs").iterdir():
        if not (folder / "receipt.json").exists():
            stop = [sys.executable, "-m", "launcher", "stop", folder.name]
            run(stop, env=here.env, cwd=here.empty)
    return max(0.0, both - alone) * 3600 / WATCHED


def _spent(here: Place) -> float:
    before = here.hosts_cpu()
    time.sleep(WATCHED)
    return here.hosts_cpu() - before
