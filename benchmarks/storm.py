"""A hundred runs come one after another to four hosts with four GPUs each, two of them for all GPUs: by the
queue, and by trying again until GPUs are free.

Each contender is one program with the Python API: a hundred commands would measure how long this machine
needs to start a hundred interpreters. What a run is writes when it begins and ends. The clock is one.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from .measure import CommandError, run, spread, table
from .place import Place, labs

HOSTS, GPUS = 4, 4
#: Runs, and the seconds between two that come: they need three quarters of what these GPUs can do.
RUNS, EVERY = 100, 2.0
#: GPUs of a run, each as likely as it stands here, and the seconds that one lasts.
SIZES, LASTS = (1, 1, 1, 2, 2, 2, 3, 4, 4, 6, 8), (4.0, 10.0)
#: The runs that need all GPUs.
GANGS = (30, 60)
#: Seconds that a run may last beyond what it says, and between two tries where there is no queue.
MORE, AGAIN = 5.0, 3.0
SEED = 7
TIMES = "/tmp/storm"


def main(rounds: int) -> str:
    """The table: how long all runs took, and how long those for all GPUs waited."""
    if reason := labs.missing():
        raise SystemExit(f"no lab of real hosts here: {reason}")
    whole: dict[str, list[float]] = {"the queue": [], "trying again": []}
    gangs: dict[str, list[float]] = {name: [] for name in whole}
    others: dict[str, list[float]] = {name: [] for name in whole}
    root, prefix = Path(__file__).parent.parent, Path(sys.prefix)
    share = [prefix, *([] if prefix.is_relative_to(root) else [root])]
    specs = [labs.HostSpec(f"lab{number + 1}", gpus=GPUS) for number in range(HOSTS)]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        labs.Lab(specs, Path(folder) / "lab", share=share) as lab,
    ):
        here = Place(lab, Path(folder))
        for number in range(rounds):
            for name in list(whole)[:: 1 if number % 2 == 0 else -1]:
                took, waited = _storm(here, name == "the queue", SEED + number)
                whole[name].append(took)
                gangs[name].append(sum(waited[gang] for gang in GANGS) / len(GANGS))
                rest = [wait for run, wait in waited.items() if run not in GANGS]
                others[name].append(sum(rest) / len(rest))
    return "\n".join(
        [
            f"{RUNS} runs, one every {EVERY:.0f} s, of 1 to 8 GPUs and {LASTS[0]:.0f} to {LASTS[1]:.0f} s, and "
            f"two of {HOSTS * GPUS} among them ({GANGS[0]} and {GANGS[1]}), on {HOSTS} hosts with {GPUS} each.",
            "",
            table(
                [
                    "by",
                    "until the last has ended, s",
                    f"those of {HOSTS * GPUS} GPUs wait, s",
                    "the others wait, s",
                ],
                [
                    *(
                        [name, *(spread(kind[name], ".1f") for kind in (whole, gangs, others))]
                        for name in whole
                    ),
                    ["ratio, round by round", *map(_ratio, (whole, gangs, others))],
                ],
            ),
        ]
    )


def _ratio(found: dict[str, list[float]]) -> str:
    return spread([one / other for one, other in zip(*found.values(), strict=True)])


def _storm(here: Place, by_queue: bool, seed: int) -> tuple[float, dict[int, float]]:
    """Seconds from the first run that comes to the last one's end; and how long each waited."""
    for host in here.lab.hosts.values():
        host.run("sh", "-c", f"rm -rf {TIMES}; mkdir {TIMES}")
    came = here.scratch / "came.json"
    words = ["queue" if by_queue else "again", str(here.inventory), str(seed), str(came)]
    run(
        [sys.executable, "-m", "benchmarks.storm", *words], env=here.env, cwd=here.empty, limit=1800
    )
    arrived: list[float] = json.loads(came.read_text())
    began, ended = dict[int, float](), 0.0
    for host in here.lab.hosts.values():
        for line in host.run("sh", "-c", f"cat {TIMES}/*").stdout.splitlines():
            number, start, end = line.split()
            began[int(number)] = min(began.get(int(number), float("inf")), float(start))
            ended = max(ended, float(end))
    if len(began) != RUNS:
        raise CommandError(f"{len(began)} of {RUNS} runs have run")
    return ended - arrived[0], {number: began[number] - arrived[number] for number in began}


def _runs(seed: int) -> list[tuple[int, float]]:
    """GPUs and seconds of each run, the same for both."""
    chance = random.Random(seed)
    found = [(chance.choice(SIZES), chance.uniform(*LASTS)) for _ in range(RUNS)]
    for gang in GANGS:
        found[gang] = HOSTS * GPUS, found[gang][1]
    return found


async def _drive(by_queue: bool, inventory: str, seed: int) -> list[float]:
    """Submit the runs as they come, and return when each did."""
    import launcher

    came: list[float] = []
    async with launcher.AsyncClient(inventory) as client:

        async def one(number: int, gpus: int, seconds: float) -> None:
            mark = f"b=$(date +%s.%N); sleep {seconds:.2f}; echo {number} $b $(date +%s.%N) > {TIMES}/{number}"
            while True:
                handle = await client.run(
                    mark,
                    gpus=gpus,
                    framework="env",
                    wait=None if by_queue else 0,
                    time_limit=seconds + MORE,
                )
                receipt = await handle.wait()
                if receipt.exit_code == 0:
                    return
                if by_queue or receipt.exit_code != 75:
                    raise SystemExit(f"run {number}: {receipt.reason}: {receipt.error}")
                await asyncio.sleep(AGAIN)

        async with asyncio.TaskGroup() as group:
            first = time.time()
            for number, (gpus, seconds) in enumerate(_runs(seed)):
                await asyncio.sleep(max(0.0, first + number * EVERY - time.time()))
                came.append(time.time())
                group.create_task(one(number, gpus, seconds))
    return came


if __name__ == "__main__":
    _, kind, where, seed, out = sys.argv
    Path(out).write_text(json.dumps(asyncio.run(_drive(kind == "queue", where, int(seed)))))
