"""From the end of a job to the start of the next one that waits, on one host with one GPU: by
launcher's queue, and by tools that people use there instead. What a run that waits costs its host. And
a storm of runs over several hosts, by the queue and by trying again until GPUs are free.

Each gets the same jobs, and each job writes when it begins and ends. The clock is one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .measure import CommandError, run, spread, table
from .place import Place, here_or_skipped, labs

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


#: GPUs of each run of a storm, in the order in which they come; the largest needs all there are.
STORM = (4, 2, 16, 1, 8, 3, 2, 6, 4, 1, 5, 2, 8, 1, 3, 4)
GPUS, HOSTS, GANG = 4, 4, 16
#: Seconds between two tries where there is no queue.
AGAIN = 1.0


def main(rounds: int) -> str:
    """The tables: each beside launcher's of the same round."""
    with _place([labs.HostSpec("lab1", gpus=1)]) as here:
        handed = _table(here, rounds)
    with _place([labs.HostSpec(f"lab{n + 1}", gpus=GPUS) for n in range(HOSTS)]) as here:
        return f"{handed}\n\n{_storms(here, rounds)}"


@contextlib.contextmanager
def _place(specs: Sequence[labs.HostSpec]) -> Iterator[Place]:
    if reason := labs.missing():
        raise SystemExit(f"no lab of real hosts here: {reason}")
    prefix = Path(sys.prefix)
    root = Path(__file__).parent.parent
    share = [prefix, *([] if prefix.is_relative_to(root) else [root])]
    tools = shutil.which("hq")
    share += [Path(tools).resolve().parent] if tools and not tools.startswith("/usr/") else []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        with labs.Lab(list(specs), scratch / "lab", share=share) as lab:
            yield Place(lab, scratch)


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
    load = f"load of the machine at the end: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    return "\n".join(
        [
            table(["by", f"end to start, s (median of {JOBS - 1} a round)"], rows),
            "",
            f"- A run that waits costs its host {cpu:.1f} s of CPU an hour ({WATCHED:.0f} s watched).",
            f"- {load}",
        ]
    )


def _contenders(here: Place) -> dict[str, Callable[[], None]]:
    """What submits all jobs and returns when they have been submitted."""
    (host,) = here.lab.hosts.values()
    found: dict[str, Callable[[], None]] = {"launcher": lambda: _launcher(here)}
    if here_or_skipped("tsp"):
        host.run("tsp", "-S", "1")
        found["task-spooler"] = lambda: _each(host, "tsp", "bash", "-c", JOB)
    if here_or_skipped("hq"):
        hq = str(shutil.which("hq"))
        host.spawn(hq, "server", "start")
        labs.wait_until(lambda: host.run(hq, "server", "info", check=False).returncode == 0, "hq")
        host.spawn(hq, "worker", "start", "--cpus", "1")
        found["HyperQueue"] = lambda: _each(host, hq, "submit", "--", "bash", "-c", JOB)
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


def _gaps(here: Place, submit: Callable[[], None]) -> list[float]:
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


def _storms(here: Place, rounds: int) -> str:
    """The table: how long all runs took, and how long the largest waited."""
    whole: dict[str, list[float]] = {"the queue": [], "trying again": []}
    gang: dict[str, list[float]] = {name: [] for name in whole}
    for number in range(rounds):
        for name in list(whole)[:: 1 if number % 2 else -1]:
            took, waited = _storm(here, name == "the queue")
            whole[name].append(took)
            gang[name].append(waited)
    ours, theirs = whole.values()
    rows = [[name, spread(whole[name], ".1f"), spread(gang[name], ".1f")] for name in whole] + [
        [
            "ratio, round by round",
            spread([one / other for one, other in zip(ours, theirs, strict=True)]),
            spread([one / other for one, other in zip(*gang.values(), strict=True)]),
        ]
    ]
    return "\n".join(
        [
            f"{len(STORM)} runs of 1 to {GANG} GPUs at once, on {HOSTS} hosts with {GPUS} each; the one "
            f"of {GANG} GPUs is the third.",
            "",
            table(["by", "until the last has ended, s", f"the one of {GANG} GPUs waits, s"], rows),
        ]
    )


def _storm(here: Place, by_queue: bool) -> tuple[float, float]:
    began, running = time.time(), []
    folder = here.scratch / "storm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, gpus in enumerate(STORM):
        wait = ("--wait", "forever") if by_queue else ("--no-wait",)
        mark = f"date +%s.%N > /tmp/begun-{number}; sleep {LASTS}"
        words = ("--gpus", str(gpus), *wait, "--framework", "env", mark)
        once = shlex.join([sys.executable, "-m", "launcher", "run", "-i", str(here.inventory),
                           "--workdir", str(here.empty), *words])  # fmt: skip
        again = f"until {once}; do test $? = 75 || exit 1; sleep {AGAIN}; done"
        with (folder / f"{number}.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    ["bash", "-c", once if by_queue else again],
                    env=here.env, cwd=here.empty, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )
            )  # fmt: skip
    for number, process in enumerate(running):
        if process.wait(600):
            raise CommandError((folder / f"{number}.log").read_text()[-2000:])
    took = time.time() - began
    number = STORM.index(GANG)
    begun = min(float(h.read(f"/tmp/begun-{number}").decode()) for h in here.lab.hosts.values())
    return took, begun - began
