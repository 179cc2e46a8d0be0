"""What sbatch inside of a batch script is asked for, by its options and by the lines of the script."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.mesh import slurm_jobs
from launcher.agent.mesh.slurm_options import Wrong

SCRIPT = """\
#!/bin/bash
#SBATCH -N 2 --time=10   # both
##SBATCH --nodes=7
#SBATCH --job-name="two words"

echo
#SBATCH --nodes=9
"""
NODES = [{"name": f"gpu{n}", "address": f"10.0.0.{n}", "tasks": 2, "gpus": []} for n in (1, 2)]


def test_the_command_wins_over_the_script(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    job = slurm_jobs.read(["-J", "mine", str(script), "--fast"])
    assert job.options == {"nodes": "2", "time": "10", "job-name": "mine"}
    assert job.argv == ["bash", str(script), "--fast"]
    assert slurm_jobs.read([str(script)]).options["job-name"] == "two words"
    assert slurm_jobs.read(["--wrap", "echo 1"]).argv == ["bash", "-c", "echo 1"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "there is no script"),
        (["nothing.sh"], "cannot read nothing.sh"),
        (["--begin=now", "--wrap=x"], "--begin cannot be done inside of a run"),
        (["--no-such", "x.sh"], "unrecognized option"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], why: str) -> None:
    with pytest.raises(Wrong, match=why):
        slurm_jobs.read(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", [3]), ("0-2", [0, 1, 2]), ("1-5:2%1", [1, 3, 5]), ("1,7,9-10", [1, 7, 9, 10])],
)
def test_elements(text: str, expected: list[int]) -> None:
    assert slurm_jobs.elements(text) == expected


@pytest.mark.parametrize("text", ["", "x", "5-1", "0-99999999"])
def test_no_elements(text: str) -> None:
    with pytest.raises(Wrong, match="--array"):
        slurm_jobs.elements(text)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 1), ({"ntasks": "2"}, 1), ({"ntasks": "3"}, 2), ({"ntasks": "9"}, 2),
     ({"ntasks": "4", "ntasks-per-node": "1"}, 4), ({"ntasks-per-node": "4"}, 1)],
)  # fmt: skip
def test_nodes_that_are_needed(options: dict[str, str], expected: int) -> None:
    assert slurm_jobs.needed(NODES, options) == expected


@pytest.mark.parametrize(
    ("text", "is_met"),
    [
        ("", True),
        ("singleton", True),
        ("afterany:8", True),
        ("afterok:7", True),
        ("afterok:7:8", False),
        ("afternotok:8", True),
        ("afternotok:7", False),
        ("afterany:7,afterok:8", False),
        ("after:7+5", True),
        ("aftercorr:7_3", True),
        ("afterok:9", False),
        ("afterok:", True),
    ],
)
def test_dependencies(text: str, is_met: bool, tmp_path: Path) -> None:
    ledger = slurm_jobs.Ledger(str(tmp_path))
    assert ledger.ended() == {}
    ledger.add("7", 0)
    ledger.add("8", 2)
    try:
        slurm_jobs.depends_on(text, ledger.ended())
    except Wrong:
        assert not is_met
    else:
        assert is_met
