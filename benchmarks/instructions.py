"""How many instructions a program executes, by callgrind: each of its processes leaves its number in a file.

Most virtual machines have no counters for `perf stat -e instructions:u`. callgrind slows a program 50 times,
so whatever waits for time does more work than usual.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

#: valgrind maps pages of the stack as they are touched, but ends a program with SIGSEGV where a signal comes
#: before the touch. CPython's `select` has a frame of 50 kB that it touches late. This touches all first.
TOUCHED = """
__attribute__((constructor)) static void touch(void) {
    volatile char room[1 << 20];
    for (int at = sizeof room - 1; at > 0; at -= 4096) room[at] = 0;
}
"""


def missing() -> str:
    """Return why nothing can be counted here, or ""."""
    for program, package in (("valgrind", "valgrind"), ("cc", "gcc")):
        if not shutil.which(program):
            return f"no {program} here: apt-get install {package}"
    return ""


def touching(file: Path) -> Path:
    """Build the library for `LD_PRELOAD` that touches the stack of a program before it begins."""
    argv = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", file]
    subprocess.run(argv, input=TOUCHED, text=True, check=True)
    return file


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
