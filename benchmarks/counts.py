"""What a start costs in work that can be counted: it is the same on every machine and at any load.

Seconds are not looked at. System calls are counted by `strace` and instructions by `valgrind`, where they
are there; both slow what they count.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import instructions
from .measure import CommandError, table
from .place import ROOT, Place, labs, place

SIZES = (2, 8, 32)
#: With more hosts, whoever counts instructions waits for minutes.
MOST = 8
HEAD = ["hosts", "start", "requests a host", "programs here", "connections", "files opened here",
        "modules", "bytes to a host", "bytes from a host", "system calls here"]  # fmt: skip
MILLIONS = ["hosts", "launcher", "relay, on a host", "supervisor, on a host"]
PYTHON = "/usr/local/bin/counted-python"
COUNTED = "/tmp/counted"
TOUCH = "/usr/local/lib/touch-stack.so"


def main(rounds: int, sizes: tuple[int, ...] = SIZES) -> str:
    """Two tables: one start of each kind, whatever the number of rounds."""
    rows, millions = [], []
    for size in sizes:
        with place(size) as here:
            code = here.scratch / "code"
            code.mkdir()
            for number, name in enumerate(("first", "edited", "unchanged")):
                if number < 2:
                    (code / "train.py").write_text(f"print({number})\n")
                rows.append([str(size), name, *_start(here, code, size)])
            if size <= MOST and not instructions.missing():
                millions.append([str(size), *_instructions(here, code, size)])
    said = instructions.missing() or "Millions of instructions of a start of unchanged code:"
    return "\n\n".join(
        [table(HEAD, rows), said, *([table(MILLIONS, millions)] if millions else [])]
    )


def _start(here: Place, code: Path, size: int) -> list[str]:
    counts, calls = here.scratch / "counts.json", here.scratch / "calls"
    words = _words(here, code, size)
    argv = [sys.executable, "-m", "support.counted", *words]
    traced = shutil.which("strace") is not None
    if traced:
        argv = ["strace", "-f", "-c", "-qq", "-o", str(calls), *argv]
    before = _bytes(here)
    _run(here, argv, COUNTS=str(counts))
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
        f"{int(calls.read_text().splitlines()[-1].split()[3]):,}" if traced else "no strace here",
    ]


def _words(here: Place, code: Path, size: int) -> list[str]:
    return here.launcher(size, "--framework", "env", "--", "true", workdir=code)[3:]


def _run(here: Place, argv: Sequence[str], **more: str) -> None:
    env = {**here.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **more}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"exit {done.returncode} of {' '.join(argv)}: {done.stderr}")


def _instructions(here: Place, code: Path, size: int) -> list[str]:
    """Count here while hosts are as always, and then on the first host while all else is."""
    words = _words(here, code, size)
    folder = here.scratch / "counted"
    folder.mkdir()
    ours = [*instructions.command(folder), sys.executable, "-m", "launcher", *words]
    _run(here, ours, PYTHONHASHSEED="0")
    (client,) = instructions.counted(folder).values()

    first = next(iter(here.lab.hosts.values()))
    counting = " ".join(instructions.command(COUNTED, children=True))
    first.run("mkdir", "-p", COUNTED)
    first.write(TOUCH, instructions.touching(here.scratch / "touch.so").read_bytes(), 0o755)
    script = f"""#!/bin/sh
echo $$ >>{COUNTED}/relays
export LD_PRELOAD={TOUCH}
exec {counting} {sys.executable} "$@"
"""
    first.write(PYTHON, script.encode(), 0o755)
    plain = here.inventory.read_text()
    here.inventory.write_text(
        plain.replace(f"{first.name}: {{}}", f"{first.name}: {{python: {PYTHON}}}")
    )
    try:
        _run(here, [sys.executable, "-m", "launcher", *words])
    finally:
        here.inventory.write_text(plain)
    labs.wait_until(lambda: not first.processes(), "the end of the agent")
    found = instructions.counted(first.path(COUNTED))
    relays = {int(pid) for pid in first.path(f"{COUNTED}/relays").read_text().split()}
    relay = sum(count for pid, count in found.items() if pid in relays)
    rest = sum(count for pid, count in found.items() if pid not in relays)
    return [f"{count / 1e6:,.0f}" for count in (client, relay, rest)]


def _bytes(here: Place) -> tuple[list[int], list[int]]:
    """What each host has received and sent so far, by its interface to the others."""
    lines = [
        host.run("cat", "/proc/net/dev").stdout.decode().partition("eth0:")[2].split()
        for host in here.lab.hosts.values()
    ]
    return [int(line[0]) for line in lines], [int(line[8]) for line in lines]
