"""What a start costs in work that can be counted: it is the same on every machine and at any load.

Seconds are not looked at. System calls are counted by `strace` where it is there, which slows the command.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from .measure import CommandError, table
from .place import ROOT, Place, place

SIZES = (2, 8, 32)
HEAD = ["hosts", "start", "requests a host", "programs here", "connections", "files opened here",
        "modules", "bytes to a host", "bytes from a host", "system calls here"]  # fmt: skip


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """The table: one start of each kind, whatever the number of rounds."""
    rows = []
    for size in sizes:
        with place(size) as here:
            code = here.scratch / "code"
            code.mkdir()
            for number, name in enumerate(("first", "edited", "unchanged", "unchanged, traced")):
                if number < 2:
                    (code / "train.py").write_text(f"print({number})\n")
                rows.append([str(size), name, *_start(here, code, size, name.endswith("traced"))])
    return table(HEAD, rows)


def _start(here: Place, code: Path, size: int, traced: bool) -> list[str]:
    counts, calls = here.scratch / "counts.json", here.scratch / "calls"
    words = here.launcher(size, "--framework", "env", "--", "true", workdir=code)[3:]
    argv = [sys.executable, "-m", "support.counted", *words]
    if traced:
        if not shutil.which("strace"):
            return ["", "", "", "", "", "", "", "no strace here"]
        argv = ["strace", "-f", "-c", "-qq", "-o", str(calls), *argv]
    before = _bytes(here)
    more = {"COUNTS": str(counts), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        argv, env={**here.env, **more}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandError(done.stderr)
    received, sent = (
        max(now - then for now, then in zip(after, earlier, strict=True))
        for after, earlier in zip(_bytes(here), before, strict=True)
    )
    found: dict[str, Any] = json.loads(counts.read_text())
    programs = ", ".join(f"{count} {name}" for name, count in sorted(found["programs"].items()))
    return [
        f"{sum(found['requests'].values()) / size:.1f}",
        programs,
        *(str(found[what]) for what in ("connections", "opened", "modules")),
        f"{received:,}",
        f"{sent:,}",
        calls.read_text().splitlines()[-1].split()[3] if traced else "",
    ]


def _bytes(here: Place) -> tuple[list[int], list[int]]:
    """What each host has received and sent so far, by its interface to the others."""
    lines = [
        host.run("cat", "/proc/net/dev").stdout.decode().partition("eth0:")[2].split()
        for host in here.lab.hosts.values()
    ]
    return [int(line[0]) for line in lines], [int(line[8]) for line in lines]
