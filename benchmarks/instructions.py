"""How many instructions a program executes, by callgrind: each of its processes leaves its number in a file.

Most virtual machines have no counters for `perf stat -e instructions:u`. callgrind slows a program 50 times,
so whatever waits for time does more work than usual.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path


def missing() -> str:
    """Return why nothing can be counted here, or ""."""
    return "" if shutil.which("valgrind") else "no valgrind here: apt-get install valgrind"


def command(folder: str | Path, *, children: bool = False) -> list[str]:
    """Return what is written before a command; with its children, each has a file of its own."""
    traced = "yes" if children else "no"
    # A fork inherits the numbers of its parent, if those do not go into a file before.
    words = ["--tool=callgrind", "--quiet", f"--trace-children={traced}", "--dump-before=fork"]
    return ["valgrind", *words, f"--callgrind-out-file={folder}/counted.%p"]


def counted(folder: Path) -> dict[int, int]:
    """Return the instructions of every process that has ended, by its pid."""
    found: dict[int, int] = {}
    for file in folder.glob("counted.*"):
        if totals := re.findall(r"^totals: (\d+)", file.read_text(), re.MULTILINE):
            pid = int(file.name.split(".")[1])
            found[pid] = found.get(pid, 0) + int(totals[-1])
    return found
