"""What it costs a host to measure itself, beside the same with psutil."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from launcher.agent.supervisor.metrics import EVERY, Metrics

from .measure import spread, table

LOOKS = 200


def _ours(folder: Path) -> Callable[[], None]:
    os.chdir(folder)
    metrics = Metrics()
    metrics.begin([], "")

    def look() -> None:
        metrics.look(metrics.next_look)

    look()
    return look


def _theirs(folder: Path) -> Callable[[], None]:
    def look() -> None:
        found = [psutil.cpu_percent(), psutil.virtual_memory(), psutil.net_io_counters()]
        with open(folder / "psutil", "a") as file:
            print(*found, psutil.disk_io_counters(), file=file)

    look()
    return look


def _cost(look: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(LOOKS):
        look()
    return (time.process_time() - began) / LOOKS


def main(rounds: int) -> str:
    """The table."""
    found: dict[str, list[float]] = {"launcher": [], "psutil": []}
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        try:
            looks = {"launcher": _ours(Path(folder)), "psutil": _theirs(Path(folder))}
            for _ in range(rounds):
                for name, look in looks.items():
                    found[name].append(_cost(look))
            line = len((Path(folder) / "metrics.jsonl").read_bytes()) // (rounds * LOOKS)
        finally:
            os.chdir(here)
    rows = [
        [
            name,
            spread([1000 * cost for cost in costs], ".2f"),
            spread([100 * cost / EVERY for cost in costs], ".4f"),
            spread([a / b for a, b in zip(costs, found["psutil"], strict=True)], ".2f"),
        ]
        for name, costs in found.items()
    ]
    head = ["a look", "CPU, ms", f"% of a core, every {EVERY:.0f} s", "of psutil's"]
    return f"{table(head, rows)}\n\n{line} bytes a line, without GPUs."
