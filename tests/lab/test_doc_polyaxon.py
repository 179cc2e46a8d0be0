"""Polyaxon's "Distributed Experiments": its topologies, with their resources, become roles here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import ROOT
from support import lab as labs
from support.documents import hosts_with
from support.task_files import TASKS

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
    for old, new in (
        ("n_workers: 7", "n_workers: 2"),
        ("n_workers: 3", "n_workers: 2"),
        ("n_ps: 3", "n_ps: 2"),
        ("- index: 2", "- index: 1"),
        ("limits: 2\n", f"limits: {cores}\n"),
    ):
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
