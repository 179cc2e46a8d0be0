"""``data:`` and ``--data``: what is a source, what is a path, and what they contradict."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.jobs import data, job_file, placeholders, planner
from launcher.jobs.layout import make_layout
from launcher.spec.data import DataSet, byte_count, from_words, of_run
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Checkpoints, Host


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("corpus", DataSet("corpus")),
        ("corpus=~/a b", DataSet("corpus", "~/a b")),
        ("corpus=~/a:data/x", DataSet("corpus", "~/a", "data/x")),
        ("corpus=./corpus:/data/x/", DataSet("corpus", "./corpus", "/data/x")),
    ],
)
def test_words(words: str, found: DataSet) -> None:
    assert from_words(words) == found


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("1=x", "cannot name a data set"),
        ("a b=x", "cannot name a data set"),
        ("../x=y", "cannot name a data set"),
        ("x=", "comes from a folder"),
        ("x=ftp://host/y", "ftp:// is not supported"),
        ("x=y:../z", "leads out of the code"),
        ("x=y:.", "leads out of the code"),
        ("x=y:a/../../b", "leads out of the code"),
        ("x=y:", "is not a path"),
        ("x=./y:~/z", "is not a path"),
        ("x=gpu3:/z", "gpu3:/z is a folder on another host, and data sets come from this machine"),
    ],
)
def test_bad_words(words: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        data.of_flags([words])


def test_a_job_file() -> None:
    text = "run: x.py\ndata:\n  a: {from: ~/a, to: d/a}\n  b: /b\n  c:\n"
    found = job_file.load(text, "job.yaml")["data"]
    assert found == (DataSet("a", "~/a", "d/a"), DataSet("b", "/b"), DataSet("c"))
    assert job_file.load("run: x.py\ndata: [a, b]\n", "job.yaml")["data"] == (
        DataSet("a"),
        DataSet("b"),
    )
    cases = {
        "data: {a-b: /x, a_b: /y}": "would both be LAUNCHER_DATA_A_B",
        "data: {a: {from: /x, to: d}, b: {from: /y, to: d/e}}": "overlap",
        "data: {a: {form: /x}}": 'unknown key "form"',
        "data: {a: {to: ../x}}": "leads out of the code",
        "data: {a: http://x/y}": "http:// is not supported",
    }
    for line, problem in cases.items():
        with pytest.raises(DocumentError, match=problem):
            job_file.load(f"run: x.py\n{line}\n", "job.yaml")


def test_flags_add_to_the_file() -> None:
    file = {"run": ("x.py",), "data": (DataSet("a", "/a", "d"), DataSet("b", "/b"))}
    job = job_file.make({"file": file, "flag": {"data": (DataSet("a", "/other"),)}}, {})
    assert job.data == (DataSet("a", "/other", "d"), DataSet("b", "/b"))


def test_processes_know_where_it_is() -> None:
    sets = (
        DataSet("my-set", "/x", "data/x"),
        DataSet("abs", "/x", "/data/y"),
        DataSet("own", "/x"),
    )
    run = ("x.py", "{{data.my-set}}", "{{ data.own }}", "\\{{data.no}}", "{{data.abs}}")
    job = job_file.make({"argument": {"run": run, "data": sets, "framework": "torch"}}, {})
    layout = make_layout(job, (Host("h"),), {})
    process = planner.plan(job, layout, planner.NOWHERE, "").nodes[0].processes[0]
    folder = planner.run_dir(layout.nodes[0].root, layout.run_id)
    assert process.env["LAUNCHER_DATA_MY_SET"] == f"{folder}/code/data/x"
    assert process.env["LAUNCHER_DATA_ABS"] == "/data/y"
    where = (f"{folder}/code/data/x", f"{folder}/data/own", "{{data.no}}", "/data/y")
    assert process.argv[-4:] == where
    with pytest.raises(InputError, match="the job has no data set of that name"):
        placeholders.render(["{{data.other}}"], {}, str)


def test_a_set_in_the_workdir_is_no_code(tmp_path: Path) -> None:
    source = str(tmp_path / "da ta[1]")
    values = {"run": ("x",), "workdir": str(tmp_path), "data": (DataSet("a", source),)}
    assert job_file.make({"argument": values}, {}).apart == ("/da\\ ta\\[1\\]/",)


def test_sizes() -> None:
    assert byte_count("500GB") == 500 * 10**9
    assert byte_count("1.5 TiB") == 3 * 2**39
    assert byte_count("0") == 0
    for bad in ("", "GB", "-1GB", "5 parsecs", "5i"):
        with pytest.raises(ValueError, match="not a size"):
            byte_count(bad)


def test_outputs_to_a_store() -> None:
    """As flags, as a key of its own, and as a part of outputs."""
    text = "run: x.py\noutputs: {to: 's3://b/{{run}}', pull: false, paths: ckpt}\n"
    job = job_file.make({"file": job_file.load(text, "job.yaml")}, {})
    assert (job.output_to, job.outputs, job.keep_on_host) == ("s3://b/{{run}}", ("ckpt",), ("*",))
    job = job_file.make({"flag": {"run": ("x.py",), "output_to": "s3://b/a"}}, {})
    assert (job.output_to, job.keep_on_host) == ("s3://b/a", ())
    assert of_run("s3://b/{{ run }}/x", "owl") == "s3://b/owl/x"
    assert of_run("s3://b/a/", "owl") == "s3://b/a/owl"
    for bad in ("/nfs", "gs://b/x", "s3://", "s3://b/{{rank}}"):
        with pytest.raises(InputError, match="output-to"):
            job_file.make({"flag": {"run": ("x.py",), "output_to": bad}}, {})


def test_checkpoints() -> None:
    """Part of the outputs, or a key of its own; their path is an output."""
    text = "run: x.py\noutputs: {paths: logs, checkpoints: {path: ckpt, every: 2m}}\n"
    job = job_file.make({"file": job_file.load(text, "job.yaml")}, {})
    assert job.checkpoints == Checkpoints("ckpt", 120.0)
    assert job.outputs == ("logs", "ckpt")
    job = job_file.make({"flag": {"run": ("x.py",), "checkpoints": {"path": "*.pt"}}}, {})
    assert job.checkpoints == Checkpoints("*.pt", 600.0)
    for bad in ("{every: 1m}", "{path: ''}", "{path: ../x}", "{path: c, every: 0}", "{paths: c}"):
        with pytest.raises(DocumentError, match=r"job\.yaml"):
            job_file.load(f"run: x.py\noutputs: {{checkpoints: {bad}}}\n", "job.yaml")
