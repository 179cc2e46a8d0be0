"""A loud run in the console: 8 ranks on three hosts print 2,000 lines a second, and one writes a scalar.

How far behind is the page, does its memory stay bounded, and what does it cost the launcher that somebody looks?
What that costs is the ratio of two times beside each other, twice in each round: other work on the machine, and more
or fewer lines, are in both.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from .measure import spread, table
from .place import Place, place

HOSTS, RANKS, LINES = 3, 8, 2000
#: Seconds for which each is measured, between two looks at the page, and how often each is measured.
SECONDS, PAUSE, TURNS = 20.0, 0.25, 2
#: A line, and a scalar, say when they were written: hosts of the lab share this machine's clock.
SCRIPT = f"""
import os, sys, time
rank = int(os.environ["RANK"])
begin, each, count = float(sys.argv[1]), {RANKS} / {LINES}, 0
if rank == 0:
    from tensorboard.summary import Writer
    writer = Writer(os.environ["LAUNCHER_OUTPUT_DIR"])
while not os.path.exists("/tmp/end"):
    now = time.time()
    print(f"rank {{rank}} line {{count}} at={{now - begin:.2f}} " + 40 * "x", flush=True)
    if rank == 0 and count % 100 == 0:
        writer.add_scalar("clock", now - begin, count)
        writer.flush()
    count += 1
    time.sleep(max(0.0, each - (time.time() - now)))
"""
_AT = re.compile(r"at=(\d+\.\d+)")
_TICK = os.sysconf("SC_CLK_TCK")


def main(rounds: int) -> str:
    """The table."""
    from support import browser

    with place(HOSTS) as here, browser.browser() as chromium:
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            _round(here, chromium, browser, taken)
    rows = [[name, spread(values, ".2f")] for name, values in taken.items()]
    return table(["what", "value"], rows)


def _round(here: Place, chromium: Any, browser: Any, taken: dict[str, list[float]]) -> None:
    begin = time.time()
    (here.empty / "loud.py").write_text(SCRIPT)
    for host in here.lab.hosts.values():
        host.run("rm", "-f", "/tmp/end")
    words = ("--nproc-per-node", "3", "--framework", "torch", "loud.py", str(begin))
    argv = here.launcher(HOSTS, *words)
    before = set(here.home.glob("runs/*"))
    with subprocess.Popen(
        argv, cwd=here.empty, env=here.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as launcher:
        while not (new := set(here.home.glob("runs/*")) - before) or not _printed(new):
            time.sleep(0.2)
        (run,) = new
        os.environ.update(here.env)
        with browser.console(here.home) as address, browser.context(chromium) as context:
            base, page = address.partition("#")[0], context.new_page()
            page.goto(address)
            page.get_by_role("table", name="Runs").wait_for(timeout=browser.PATIENCE)
            told = context.new_cdp_session(page)
            told.send("Performance.enable")
            lags: list[float] = []
            alone, watched, heaps, lines = [], [], [], []
            for _ in range(TURNS):
                page.goto("about:blank")
                alone.append(_cost(launcher.pid))
                page.goto(f"{base}#/runs/{run.name}/logs")
                page.get_by_text("at=").first.wait_for(timeout=browser.PATIENCE)
                printed, since = _lines(run), time.monotonic()
                watched.append(_cost(launcher.pid, lambda: lags.append(_behind(page, begin))))
                lines.append((_lines(run) - printed) / (time.monotonic() - since))
                heaps.append(_heap(told))
            while len(heaps) < 2 * TURNS:  # the page stays open, and thousands of lines more come
                _cost(launcher.pid, lambda: lags.append(_behind(page, begin)))
                heaps.append(_heap(told))
            page.goto(f"{base}#/runs/{run.name}/scalars")
            clock = page.get_by_role("img", name=re.compile(r"^clock: \d"))
            clock = clock.or_(page.get_by_role("img", name=re.compile(r"^clock: outputs")))
            clock.first.wait_for(timeout=browser.PATIENCE)
            late = []
            until = time.monotonic() + SECONDS / 2
            while time.monotonic() < until:
                label = clock.first.get_attribute("aria-label") or ""
                late.append(time.time() - begin - float(label.rpartition(" ")[2]))
                time.sleep(PAUSE)
        for host in here.lab.hosts.values():
            host.write("/tmp/end", b"")
        try:
            launcher.wait(60)
        finally:
            launcher.send_signal(signal.SIGKILL)
    found = {
        "lines: seconds from a rank to the page, on average": [sum(lags) / len(lags)],
        "lines: at most": [max(lags)],
        "a scalar: seconds from a rank's file to the plot, on average": [sum(late) / len(late)],
        "a scalar: at most": [max(late)],
        "lines that came, a second": lines,
        "the page's heap after a collection, MB, at first": heaps[:1],
        "the same, after three times as long": heaps[-1:],
        "the launcher's CPU, % of a core, nobody looks": [one for one, _ in alone],
        "the same, while the page is open": [one for one, _ in watched],
        "the second by the first, of the same round": [
            sum(one for one, _ in watched) / sum(one for one, _ in alone)
        ],
        "the launcher waits for a processor, % of the time": [one for _, one in alone + watched],
    }
    for name, values in found.items():
        taken.setdefault(name, []).extend(values)


def _printed(runs: set[Path]) -> bool:
    return any(len(list(run.glob("logs/attempt-0/rank-*.out"))) >= RANKS for run in runs)


def _lines(run: Path) -> int:
    """Return how many lines have come here."""
    return sum(log.read_bytes().count(b"\n") for log in run.glob("logs/attempt-0/rank-*.out"))


def _heap(session: Any) -> float:
    """Return the MB that scripts of the page use, once what nobody needs is collected."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {
        one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]
    }
    used: float = metrics["JSHeapUsedSize"]
    return used / 1e6


def _behind(page: Any, begin: float) -> float:
    """Return how old the newest line on the page is."""
    text = page.get_by_role("log").inner_text()
    newest = max((float(at) for at in _AT.findall(text)), default=0.0)
    return time.time() - begin - newest


def _cost(pid: int, look: Any = None) -> tuple[float, float]:
    """Return percent of a core that a process takes for some seconds, and percent of the time for which
    it waits for one: where that is much, the machine is what was measured."""
    before, waited, began = _ticks(pid), _waited(pid), time.monotonic()
    while (left := began + SECONDS - time.monotonic()) > 0:
        if look:
            look()
        time.sleep(min(PAUSE, left))
    seconds = time.monotonic() - began
    return (
        100 * (_ticks(pid) - before) / _TICK / seconds,
        100 * (_waited(pid) - waited) / seconds,
    )


def _waited(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
