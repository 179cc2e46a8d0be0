"""What git says of a folder on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: A program that the repository's own settings name for this is not run.
_QUIETLY = ("-c", "core.fsmonitor=")


def output(folder: Path, *words: str) -> bytes | None:
    """Return what git prints; None without git or outside a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *_QUIETLY, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout if answer.returncode == 0 else None


def lines(output: bytes) -> list[bytes]:
    """Return the paths of an answer to ``-z``."""
    return [line for line in output.split(b"\0") if line]
