"""Run the whole suite several times on a busy machine, and name the tests that failed.

    python -m support.flakes [N] [--spin PROCESSES] [--select PATH]...

Processes that only spin run beside each round. A round that failed leaves its output in a file. The
exit code is 1 if any round failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from support import ROOT

#: How `make test` and `make test-slow` run the suite.
PYTEST = (
    "-m",
    "pytest",
    "-n",
    "4",
    "--dist",
    "worksteal",
    "-m",
    "not frameworks and not projects and not vm",
)
#: Exits on its own when this process is killed and cannot stop it.
SPIN = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): pass"


@dataclass(frozen=True)
class Round:
    """What one round left. ``failed`` are tests; a round may also fail without any."""

    code: int
    passed: int
    failed: tuple[str, ...]
    output: Path

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {len(self.failed)} failed"
        return counts if self.code == 0 else f"{counts}, exit code {self.code}: {self.output}"


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep ``count`` processors busy."""
    argv = [sys.executable, "-c", SPIN, str(os.getpid())]
    processes = [subprocess.Popen(argv, stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def play(select: Sequence[str], folder: Path, number: int) -> Round:
    """Run the tests under ``select`` once, or all of them."""
    output, report = folder / f"round-{number}.txt", folder / f"round-{number}.xml"
    argv = [sys.executable, *PYTEST, f"--junitxml={report}", *select]
    with output.open("wb") as file:
        done = subprocess.run(argv, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    passed, failed = read_report(report) if report.exists() else (0, ())
    report.unlink(missing_ok=True)
    if done.returncode == 0:
        output.unlink()
    return Round(done.returncode, passed, failed, output)


def read_report(report: Path) -> tuple[int, tuple[str, ...]]:
    """Return how many tests passed, and the names of those that did not, by a JUnit report."""
    passed, failed = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, tuple(failed)


def summary(rounds: Sequence[Round]) -> str:
    """Say how many rounds failed, and how often each test did."""
    counts = Counter(name for one in rounds for name in set(one.failed))
    lines = [f"{sum(one.code != 0 for one in rounds)} of {len(rounds)} rounds failed"]
    lines += [f"  {count} times  {name}" for name, count in counts.most_common()]
    return "\n".join(lines)


def main() -> int:
    """Play all rounds; return the exit code."""
    parser = argparse.ArgumentParser(prog="support.flakes", description=__doc__.partition("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?", default=10, metavar="N")
    parser.add_argument("--spin", type=int, default=2, help="processes that only spin (2)")
    parser.add_argument("--select", action="append", default=[], help="tests to run (all)")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flakes-"))
    rounds: list[Round] = []
    with spinning(asked.spin):
        for number in range(1, asked.rounds + 1):
            began = time.monotonic()
            rounds.append(play(asked.select, folder, number))
            seconds = time.monotonic() - began
            print(f"round {number} of {asked.rounds}, {seconds:.0f} s: {rounds[-1]}", flush=True)
    print(summary(rounds))
    if all(one.code == 0 for one in rounds):
        folder.rmdir()
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
