"""Polyaxon's files become jobs with roles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.documents import answered
from support.task_files import TASKS, job_of, made, planned, shares


def test_tensorflow_of_polyaxon() -> None:
    """Source: Polyaxon's "Distributed Experiments": 1 master, 7 workers, 3 parameter servers."""
    job, notes = made("polyaxon-tensorflow", "polyaxon")
    assert job.framework == "tensorflow"
    assert shares(job, "chief") == [(1, 2, 1024)]
    assert shares(job, "worker") == [(0 if n == 2 else 1, 2, 1024) for n in range(7)]
    assert shares(job, "ps") == [(0, 1, 512), (0, 1, 256), (0, 1, 256)]
    assert "requests are not carried over" in notes
    assert "names no command" in notes
    keys = {p.key for node in planned(job, 4).nodes for p in node.processes}
    assert keys == {"chief-0", *(f"worker-{n}" for n in range(7)), *(f"ps-{n}" for n in range(3))}


@pytest.mark.parametrize(
    ("name", "framework", "roles"),
    [
        ("mxnet", "mxnet", {"scheduler": 1, "worker": 3, "server": 1}),
        ("pytorch", "torch", {"master": 1, "worker": 3}),
    ],
)
def test_mxnet_and_pytorch_of_polyaxon(name: str, framework: str, roles: dict[str, int]) -> None:
    job, _ = made(f"polyaxon-{name}", "polyaxon")
    assert (job.framework, {r.name: r.replicas for r in job.roles}) == (framework, roles)
    processes = [p for node in planned(job, 0).nodes for p in node.processes]
    assert len(processes) == sum(roles.values())
    if framework == "torch":
        assert {p.env["RANK"]: p.key for p in processes}["0"] == "master-0"


def test_polyaxons_command_and_older_keys() -> None:
    job, notes = job_of(
        "version: 1\nkind: experiment\ntags: [a]\ndeclarations: {lr: 0.1}\n"
        "environment:\n  env_vars: [[A, b c], [WORLD_SIZE, 3]]\n  pytorch:\n    n_workers: 2\n"
        "    default_worker_resources: {gpu: 1, cpu: 2}\n"
        "    worker_resources: [{index: 1, cpu: {limits: 0.5}}]\n"
        "run: {cmd: 'cd x && python train.py --lr={{ lr }} {{ other }}'}\n",
        "polyaxon",
    )
    assert job.run == ("bash", "-ec", "cd x && python train.py --lr=0.1 \\{{ other }}")
    assert job.envs == {"A": "b c"}
    assert shares(job, "worker") == [(1, 2, None), (0, 1, None)]
    for said in ("tags", "WORLD_SIZE", "{{ other }}", "0.5 is rounded up to 1"):
        assert said in notes
    assert planned(job, 1).nodes[0].processes[0].argv[-1].endswith("--lr=0.1 {{ other }}")


def test_a_pytorchjob_of_polyaxon_2() -> None:
    job, notes = made("polyaxon-pytorchjob", "polyaxon")
    assert {r.name: r.replicas for r in job.roles} == {"master": 1, "worker": 3}
    assert job.role("master").run == (
        "python",
        "-u",
        "train.py",
        "--lr=0.1",
        "--name=\\{{ globals.name }}",
    )
    assert shares(job, "master") == [(1, 2, 4096)]
    assert job.role("worker").envs == {"A": "b c"}
    assert list(job.secrets) == ["TOKEN"]
    assert job.environment is not None
    assert job.environment.image
    for said in ("cleanPodPolicy", "RANK", "globals.name"):
        assert said in notes


def test_horovod_of_polyaxon() -> None:
    job, notes = job_of(
        "environment:\n  horovod:\n    n_workers: 3\n    default_worker: {resources: {gpu: 2}}\n"
        "run: python train.py",
        "polyaxon",
    )
    assert (job.framework, job.num_nodes, job.resources.gpus) == ("horovod", 4, 8)
    assert "num_nodes" in notes


def test_its_file_given_to_run_is_recognised(tmp_path: Path) -> None:
    shutil.copy(TASKS / "polyaxon-tensorflow.yaml", tmp_path / "polyaxonfile.yml")
    hint = "launcher import polyaxon polyaxonfile.yml -o job.yaml"
    answered("run polyaxonfile.yml", hint, tmp_path)
