"""Polyaxon's "Distributed Experiments": its topologies, with their resources, become roles here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lab as labs
import pytest
import yaml
from conftest import ROOT
from documents import answered, hosts_with
from task_files import TASKS, job_of, made, planned, shares


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
        *("python", "-u", "train.py", "--lr=0.1"),
        "--name=\\{{ globals.name }}",
    )
    assert shares(job, "master") == [(1, 2, 4096)]
    assert job.role("worker").envs == {"A": "b c"}
    assert list(job.secrets) == ["TOKEN"]
    for said in ("cleanPodPolicy", "image", "RANK", "globals.name"):
        assert said in notes


def test_horovod_of_polyaxon() -> None:
    job, notes = job_of(
        "environment:\n  horovod:\n    n_workers: 3\n    default_worker: {resources: {gpu: 2}}\n"
        "run: python train.py",
        "polyaxon",
    )
    assert (job.framework, job.num_nodes, job.resources.gpus) == ("horovod", 4, 8)
    assert "num_nodes" in notes


#: Files of the document and the example that is run by each; fewer workers.
REAL = {
    "tensorflow": ("tensorflow_ps", "chief-0.out", "after 20 steps on 2 workers: [2. 1.]"),
    "mxnet": ("mxnet_gluon", "worker-0.out", "of 2: weight 2.0 bias 1.0"),
}


def without_gpus(value: Any) -> Any:
    """A tree without them: no GPU is there."""
    if isinstance(value, list):
        return [without_gpus(one) for one in value]
    if isinstance(value, dict):
        return {key: without_gpus(one) for key, one in value.items() if key != "gpu"}
    return value


@pytest.mark.frameworks
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "cores"),
    [("tensorflow", 2), ("tensorflow", 1), ("mxnet", 2)],
    ids=["tensorflow", "tensorflow with one core a task", "mxnet"],
)
def test_a_topology_trains(name: str, cores: int, tmp_path: Path) -> None:
    """In the cores and the memory that the document gives each process."""
    example, log, said = REAL[name]
    text = (TASKS / f"polyaxon-{name}.yaml").read_text()
    for old, new in (("n_workers: 7", "n_workers: 2"), ("n_workers: 3", "n_workers: 2"),
                     ("n_ps: 3", "n_ps: 2"), ("- index: 2", "- index: 1"),
                     ("limits: 2\n", f"limits: {cores}\n")):  # fmt: skip
        text = text.replace(old, new)
    text = yaml.safe_dump(without_gpus(yaml.safe_load(text)))
    steps = 20 if name == "tensorflow" else 60
    specs = [labs.HostSpec(f"lab{number}") for number in range(1, 5)]  # two cores each
    with hosts_with(name, specs, tmp_path) as launcher:
        shutil.copy(ROOT / "examples" / example / "train.py", launcher.work)
        launcher.script(f"{text}\nrun: {{cmd: train.py --steps {steps}}}\n", "polyaxonfile.yaml")
        done = launcher.call("import", "polyaxon", "polyaxonfile.yaml", "-o", "job.yaml")
        assert done.returncode == 0, done.stderr
        ran = launcher.run("job.yaml", timeout=240)
    assert ran.code == 0, ran.err
    assert said in ran.log(log).decode()
    if name == "tensorflow":
        limits = {k: v for host in ran.receipt["hosts"] for k, v in host["limits"].items()}
        assert "512 MiB (" in limits["ps-0"]
        assert "256 MiB (" in limits["ps-1"]


def test_its_file_given_to_run_is_recognised(tmp_path: Path) -> None:
    shutil.copy(TASKS / "polyaxon-tensorflow.yaml", tmp_path / "polyaxonfile.yml")
    hint = "launcher import polyaxon polyaxonfile.yml -o job.yaml"
    answered("run polyaxonfile.yml", hint, tmp_path)
