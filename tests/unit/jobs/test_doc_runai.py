"""Run:ai's commands are refused with a hint to what does the same here."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.errors import PlanError
from launcher.spec.model import Host, Meeting
from support.documents import answered

#: Its commands and options, and a word of what is said about each.
THEIRS = {
    "project set team-a": "projects: {team-a: {quota: 4, users: [ann, bob]}}",
    "submit-mpi dist --processes=2 -g 1": "launcher run --framework horovod --gpus N SCRIPT",
    "list": "launcher ls",
    "get dist": "launcher show RUN",
    "delete dist": "launcher stop RUN stops it, launcher rm RUN deletes it",
    "bash dist-int": "launcher shell RUN",
    "run --processes=2 train.py": "--gpus N chooses hosts and ranks",
    "run -g 1 train.py": "did you mean --gpus N? (the total over all hosts)",
    "run -i gcr.io/run-ai-demo/quickstart-distributed train.py": "create one with launcher init",
    "run --interactive train.py": "launcher run --detach, then launcher shell RUN",
    "run --command=sh --args=-c train.py": "--args: put the command after the options",
    "run -p team-a train.py": "--project NAME",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    answered(words, THEIRS[words], tmp_path)


#: What horovodrun and mpirun may be told inside of a job: nothing that is not the plan's.
INNER = {
    ("horovod", "horovodrun -np 2 python a.py"): "",
    ("horovod-direct", "horovodrun -np %RUNAI_MPI_NUM_WORKERS% --gloo python a.py"): "",
    ("mpi", "mpirun -n {{world_size}} --allow-run-as-root python a.py"): "",
    ("horovod", "horovodrun -H a:1 python a.py"): "",
    ("horovod-direct", "horovodrun -H a:1 --autotune python a.py"): (
        "horovodrun -H cannot be used"
    ),
}


@pytest.mark.parametrize(("framework", "words"), INNER)
def test_launchers_inside_of_a_job(framework: str, words: str) -> None:
    job = jobs.make({"file": {"framework": framework, "num_nodes": 2, "run": (words,)}}, {})
    hosts = [Host("a", gpus=1), Host("b", gpus=1)]
    layout, meeting = make_layout(job, hosts, {}, "r"), Meeting("10.0.0.1", 29500)
    if error := INNER[framework, words]:
        with pytest.raises(PlanError, match=f"^{error}$") as caught:
            planner.plan(job, layout, meeting, "x")
        assert caught.value.hint
        return
    first = planner.plan(job, layout, meeting, "x").nodes[0].processes
    assert any(process.argv[-2:] in (("python", "a.py"), ("python3", "a.py")) for process in first)
    assert not any("RUNAI" in word for process in first for word in process.argv)
