"""Benchmarks are run by hand, rarely: what starts them must not rot in the meantime."""

from __future__ import annotations

import subprocess
import sys

from support import ROOT
from support.hosts import need_lab


def rows(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of all tables, by their first cell."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("|"):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(name, []).append(cells)
    return found


def test_peers_start_the_same_job_and_are_killed() -> None:
    need_lab()
    words = ("peers", "--only", "hand,launcher", "--rounds", "1", "--bound", "3")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "; load " in done.stdout
    ours, hand = (rows(done.stdout)[name] for name in ("launcher", "hand"))
    for noop_or_torch in (0, 1):
        assert ours[noop_or_torch][-2:] == ["4", "4"], done.stdout
        assert hand[noop_or_torch][-2:] == ["4", "0"], done.stdout
    # Its starter killed, a rank killed.
    assert hand[2][1].startswith("4 ranks"), done.stdout
    *_, gone, ended, code = ours[2]
    assert "never" not in (gone, ended), done.stdout
    assert code == "137"
