"""What a run of another machine is asked about before it starts from here."""

from __future__ import annotations

from launcher.records.adoption import Adoption, doubts
from launcher.spec.environments import Environment
from launcher.spec.model import Job


def test_a_build_with_files_of_this_machine_is_named() -> None:
    built = Job(run=("t.py",), environment=Environment(image="/home/ann/x/Dockerfile"))
    said = "it builds an image of /home/ann/x/Dockerfile with the files in /home/ann/x, here or on a host"
    assert doubts(Adoption(), (), built) == (said,)
    assert doubts(Adoption(trusted=True), (), built) == ()
    assert doubts(Adoption(), (), Job(run=("t.py",), environment=Environment(image="x:1"))) == ()


def test_a_log_that_is_written_here_is_named() -> None:
    """Hosts say where, and what they print."""
    envs = {"SBATCH_OUTPUT": "authorized_keys"}
    job = Job(run=("x.sbatch",), framework="sbatch", envs=envs, workdir="/home/ann/.ssh")
    said = "it writes what the script prints to authorized_keys in /home/ann/.ssh here"
    assert doubts(Adoption(), (), job) == (said,)
