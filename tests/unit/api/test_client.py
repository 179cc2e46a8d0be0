"""Errors of ``Client`` say what to do, before any host is reached."""

from __future__ import annotations

from pathlib import Path

import pytest

import launcher as library
from launcher.api.jobs import job_of_words
from launcher.spec.errors import InputError, UnknownRun
from launcher.spec.model import Host, Layout, Node, Task


def test_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a host, and without a thread."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    client = library.Client()
    with pytest.raises(UnknownRun, match="there are no runs here"):
        client.show("-")
    with pytest.raises(UnknownRun):
        client.rm("calm-owl-1")
    with pytest.raises(InputError) as lacking:
        client.run(library.make_job(run=("true",)))
    assert "launcher.Client(" in lacking.value.hint
    (tmp_path / "home" / "runs" / "calm-owl-1").mkdir(parents=True)
    (tmp_path / "home" / "runs" / "calm-owl-1" / "events.jsonl").touch()
    with pytest.raises(InputError, match="nothing was started"):
        client.attach("calm")
    assert client.rm("calm") == []
    assert client.list() == []
    client.close()


def test_a_command_is_enough_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    text = "run: train.py\nnum_nodes: 4\nresources: {gpus: 8, nproc_per_node: 2}\n"
    (tmp_path / "job.yaml").write_text(text)
    job = job_of_words("train.py --lr 0.1", {"gpus": "A100:16", "envs": {"SEED": "1"}, "nodes": 2})
    assert (job.run, job.num_nodes, job.envs) == (("train.py", "--lr", "0.1"), 2, {"SEED": "1"})
    assert (job.resources.gpus, job.resources.gpu_model) == (16, "A100")
    job = job_of_words(["train.py", "a b"], {"framework": "torch"})
    assert (job.run, job.framework) == (("train.py", "a b"), "torch")
    job = job_of_words("job.yaml", {"gpus": 4})
    assert (job.num_nodes, job.resources.gpus, job.resources.nproc_per_node) == (4, 4, 2)
    client = library.Client(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="no/script"):
        client.run("no/script.py")
    with pytest.raises(InputError, match="gpus, nodes: the job has its values already") as caught:
        client.run(job, gpus=4, nodes=2, tags=["x"])
    assert "dataclasses.replace" in caught.value.hint
    client.close()


def test_logs_are_those_of_some_ranks() -> None:
    nodes = (
        Node(Host("a"), 0, 2, 0, tasks=(Task("chief", 0, 0, 1), Task("worker", 0, 1, 2))),
        Node(Host("b"), 1, 1, 2, tasks=(Task("worker", 1, 2, 2),)),
    )
    assert Layout("calm-owl", nodes).keys_of([0, 2]) == {"chief-0", "worker-1"}
    assert Layout("calm-owl", (Node(Host("a"), 0, 2, 0),)).keys_of([1]) == {"rank-1"}
