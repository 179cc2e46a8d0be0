"""Memory: of launcher as hosts are added, and of what it leaves on a host while a job runs."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .measure import Sample, race, spread, table
from .place import Place, labs, place

SIZES = (2, 8, 32)
#: MB of outputs that one host writes, and how many files of it.
OUTPUTS = (1, 400)
FILES = (1, 10_000, 50_000)
_KEYS = ("Rss", "Pss", "Private_Dirty")


def main(rounds: int) -> str:
    """Four tables."""
    peaks: dict[int, list[float]] = {}
    with place(max(SIZES)) as here:
        contenders = {
            str(n): here.timed(here.launcher(n, "--framework", "env", "--", "true")) for n in SIZES
        }
        for size, samples in race(contenders, rounds).items():
            peaks[int(size)] = [s.rss for s in samples]
        outputs = race({str(n): here.timed(_writes(here, n)) for n in OUTPUTS}, rounds)
        files = race({str(n): here.timed(_touches(here, n)) for n in FILES}, rounds)
        parts = _on_host(here)
    least, most = min(peaks), max(peaks)
    slope = statistics.median(peaks[most]) - statistics.median(peaks[least])
    rows = [[str(size), spread(found, ".1f")] for size, found in peaks.items()]
    return "\n".join(
        [
            table(["hosts", "launcher, peak RSS, MiB"], rows),
            f"\n- per further host: {slope / (most - least):.2f} MiB\n",
            table(
                ["MB of outputs from one host", "launcher, peak RSS, MiB"],
                [[size, spread([s.rss for s in found], ".1f")] for size, found in outputs.items()],
            ),
            "",
            table(
                ["output files of one host", "launcher, peak RSS, MiB"],
                [[count, spread([s.rss for s in found], ".1f")] for count, found in files.items()],
            ),
            f"\n- per further file: {_each(files):.2f} KiB",
            "\nOn a host while its process sleeps, MiB:\n",
            table(["process", "RSS", "PSS", "private dirty"], parts),
        ]
    )


def _writes(here: Place, megabytes: int) -> list[str]:
    script = f'head -c {megabytes}000000 /dev/urandom >"$LAUNCHER_OUTPUT_DIR/weights"'
    return here.launcher(1, "--framework", "env", "--", "sh", "-c", script)


def _touches(here: Place, count: int) -> list[str]:
    script = (
        'cd "$LAUNCHER_OUTPUT_DIR" && seq -f "folder-%g" $((($0 + 999) / 1000)) | xargs mkdir && '
        "seq $0 | awk '{ printf \"folder-%d/sample-%08d.txt\\n\", ($1 + 999) / 1000, $1 }' | xargs touch"
    )
    return here.launcher(1, "--framework", "env", "--", "sh", "-c", script, str(count))


def _each(files: Mapping[str, Sequence[Sample]]) -> float:
    least, most = (
        statistics.median(s.rss for s in files[str(n)]) for n in (min(FILES), max(FILES))
    )
    return (most - least) * 1024 / (max(FILES) - min(FILES))


def _on_host(here: Place) -> list[list[str]]:
    argv = here.launcher(2, "--framework", "env", "--", "sleep", "600.25")
    running = subprocess.Popen(
        ["timeout", "120", *argv],
        env=here.env,
        cwd=here.empty,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    host = here.lab.hosts["lab1"]
    try:
        labs.wait_until(lambda: _find(host, "600.25") is not None, "the job's sleep", 60)
        return [
            [name, *(f"{kib / 1024:.1f}" for kib in _sizes(host, pid))]
            for pid, name in _agents(host)
        ]
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(60)


def _find(host: labs.LabHost, word: str) -> int | None:
    return next((p.pid for p in host.processes() if word in p.argv), None)


def _agents(host: labs.LabHost) -> list[tuple[int, str]]:
    """The relay is the child of sshd; the supervisor is the host's pid 1's."""
    found = []
    for process in host.processes():
        if any("agent-" in word for word in process.argv):
            stat = host.path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            kind = "supervisor" if stat[1] == "1" else "relay"
            kind = "rank" if "rank" in process.argv else kind
            found.append((process.pid, kind))
    return found


def _sizes(host: labs.LabHost, pid: int) -> list[int]:
    text = Path(host.path(f"/proc/{pid}/smaps_rollup")).read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line.split(" ")[0])
    return [int(lines[key].split()[0]) for key in _KEYS]
