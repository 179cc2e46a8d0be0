"""Benchmarks are run by hand, rarely: what starts them must not rot in the meantime."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import instructions
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


def measured(*words: str) -> str:
    """Return what benchmarks print."""
    need_lab()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "; load " in done.stdout
    return done.stdout


@pytest.mark.timeout(300)
def test_peers_start_the_same_job_and_are_killed() -> None:
    text = measured("peers", "--only", "hand,launcher", "--rounds", "1", "--bound", "3")
    ours, hand = (rows(text)[name] for name in ("launcher", "hand"))
    for noop_or_torch in (0, 1):
        assert ours[noop_or_torch][-2:] == ["4", "4"], text
        assert hand[noop_or_torch][-2:] == ["4", "0"], text
    # Its starter killed, a rank killed.
    assert hand[2][1].startswith("4 ranks"), text
    *_, gone, ended, code = ours[2]
    assert "never" not in (gone, ended), text
    assert code == "137"


@pytest.mark.timeout(200)
@pytest.mark.skipif(bool(instructions.missing()), reason=instructions.missing())
def test_a_start_executes_as_many_instructions_as_it_did() -> None:
    """They are the same to a percent at any load. A number may rise with a reason that its commit gives."""
    text = measured("counts", "--sizes", "2")
    unchanged, millions = rows(text)["2"][2:4]
    assert unchanged[0] == "unchanged" and int(unchanged[-1].replace(",", "")) > 0, text
    here, relay, supervisor = (int(cell.replace(",", "")) for cell in millions)
    assert 0 < here < 1_600 and 0 < relay < 110 and 0 < supervisor < 40, text
