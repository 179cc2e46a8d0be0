"""The console in a browser: 5,000 runs, a log of 1 GB, scalars as they are written and of 100 runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.records.scalars import Scalars

from .measure import spread, table
from .place import ROOT

RUNS, LOG, CURVES, STEPS = 5000, 1 << 30, 100, 1000
#: Scrolls from the first run to the last one; returns the longest time between two frames, in ms.
SCROLL = """async () => {
  const rows = document.querySelector('.rows');
  let worst = 0, before = performance.now();
  for (let step = 0; step <= 60; step++) {
    rows.scrollTop = step / 60 * rows.scrollHeight;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    if (step) worst = Math.max(worst, now - before);
    before = now;
  }
  return worst;
}"""


def main(rounds: int) -> str:
    """The table."""
    from support import browser, console_runs

    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        home = Path(folder)
        os.environ["LAUNCHER_HOME"] = folder
        running = console_runs.several()
        try:
            _copy_runs(home, RUNS - 3)
            log = running.path / "logs" / "attempt-0" / "rank-0.out"
            _fill(log)
            with browser.browser() as chromium, browser.console(home) as address:
                context = chromium.new_context(viewport={"width": 1280, "height": 800})
                context.set_default_timeout(240_000)
                first = context.new_page()
                with _timed(taken, "the console's first list of 5,000 runs, from its start on"):
                    first.goto(address)
                    first.get_by_text("5000 runs").wait_for()
                base = address.partition("#")[0]
                for number in range(rounds):
                    _round(context, base, running.name, log, number, taken)
            _against_tensorboard(home, rounds, taken)
        finally:
            running.close()
    rows = [[name, spread(values, ".3f")] for name, values in taken.items()]
    return table(["what", "seconds"], rows)


def _round(context: Any, base: str, run: str, log: Path, number: int, taken: Any) -> None:
    page = context.new_page()
    with _timed(taken, "5,000 runs: to the first row"):
        page.goto(f"{base}#/")
        page.get_by_text("5000 runs").wait_for()
    with _timed(taken, "5,000 runs: a filter typed, to its result"):
        page.get_by_role("searchbox", name="Filter runs").fill("wider gpu2")
        page.get_by_text("1 of 5000 runs").wait_for()
    page.get_by_role("searchbox", name="Filter runs").fill("")
    page.get_by_text("5000 runs", exact=True).wait_for()
    worst = page.evaluate(SCROLL) / 1000
    taken.setdefault("5,000 runs: the longest frame while all of them scroll by", []).append(worst)
    with _timed(taken, "a run with a log of 1 GB: to its last line"):
        page.goto(f"{base}#/runs/{run}/logs")
        page.get_by_text("the end of a long log").first.wait_for()
    with _timed(taken, "a line: from the file to the screen"):
        _add(log, f"round {number} is on the screen\n")
        page.get_by_text(f"round {number} is on the screen").wait_for()
    page.get_by_role("combobox", name="Output of").select_option("attempt-0/rank-0.out")
    with _timed(taken, "a text in 1 GB: to the line where it is"):
        page.get_by_role("searchbox", name="Find").fill("the end of a long log")
        page.keyboard.press("Enter")
        page.get_by_role("list", name="Found lines").get_by_role("button").first.wait_for()
    page.goto(f"{base}#/runs/{run}/scalars")
    page.get_by_role("img", name="val/accuracy").wait_for()
    page.get_by_text("reading logs").wait_for(state="hidden")
    with _timed(taken, "a scalar: from the log to the plot"):
        _add(log.with_name("rank-1.out"), f"step {1000 + number} loss={number + 7}.5\n")
        page.get_by_role("img", name=f"rank 1 {number + 7}.5").wait_for()
    page.close()


def _copy_runs(home: Path, count: int) -> None:
    pattern = next((home / "runs").glob("baseline-*"))
    for number in range(count):
        folder = home / "runs" / f"run-{number:05d}"
        folder.mkdir()
        for name in ("run.json", "events.jsonl", "receipt.json"):
            shutil.copy(pattern / name, folder)


def _fill(log: Path) -> None:
    lines = "".join(
        f"2026-11-28 12:00:00 worker {n:06d} waits for its batch\n" for n in range(20_000)
    )
    block = lines.encode()
    with log.open("ab") as file:
        for _ in range(LOG // len(block)):
            file.write(block)
        file.write(b"the end of a long log\n")


def _add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


@contextmanager
def _timed(taken: dict[str, list[float]], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    taken.setdefault(name, []).append(time.perf_counter() - began)


def _against_tensorboard(home: Path, rounds: int, taken: dict[str, list[float]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary import Writer

    runs = [home / f"curves-{number}" for number in range(CURVES)]
    for run in runs:
        writer = Writer(str(run / "outputs"))
        for step in range(STEPS):
            for tag in ("loss", "accuracy", "lr"):
                writer.add_scalar(tag, 1 / (step + 1), step)
        writer.close()

    def ours() -> None:
        assert all(Scalars(run).look() for run in runs)

    def theirs() -> None:
        for run in runs:
            EventAccumulator(str(run / "outputs"), size_guidance={"tensors": 0}).Reload()

    both: dict[str, Callable[[], None]] = {
        f"{CURVES} runs with 3 scalars of {STEPS} steps: read": ours,
        "the same by TensorBoard's EventAccumulator": theirs,
    }
    for _ in range(rounds):
        for name, work in both.items():
            with _timed(taken, name):
                work()


sys.path.insert(0, str(ROOT / "tests"))
