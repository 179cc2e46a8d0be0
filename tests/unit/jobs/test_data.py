"""``data:`` and ``--data``: what is a source, what is a path, and what they contradict."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.jobs import data, job_file, placeholders, planner
from launcher.jobs.layout import make_layout
from launcher.spec.data import DataSet, byte_count, from_words, of_run
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Checkpoints, Host
from launcher.spec.web_url import address, file_name, known_sum


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("corpus", DataSet("corpus")),
        ("corpus=~/a b", DataSet("corpus", "~/a b")),
        ("corpus=~/a:data/x", DataSet("corpus", "~/a", "data/x")),
        ("corpus=./corpus:/data/x/", DataSet("corpus", "./corpus", "/data/x")),
        ("a=http://h:80/x.tar", DataSet("a", "http://h:80/x.tar")),
        ("a=file:///nfs/x:/data/x", DataSet("a", "file:///nfs/x", "/data/x")),
        ("a=https://[::1]:80/é/x.tar:d", DataSet("a", "https://[::1]:80/é/x.tar", "d")),
        (
            f"a=https://h/x?v=1#sha256={'0' * 64}",
            DataSet("a", f"https://h/x?v=1#sha256={'0' * 64}"),
        ),
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
        ("x=file://gpu3/nfs", "is no folder that all hosts have"),
        ("x=file:///", "is no folder that all hosts have"),
        ("x=y:../z", "leads out of the code"),
        ("x=y:.", "leads out of the code"),
        ("x=y:a/../../b", "leads out of the code"),
        ("x=y:", "is not a path"),
        ("x=./y:~/z", "is not a path"),
        ("x=https://", "is not https://HOST/PATH/FILE"),
        ("x=https://h:99999/y", "is not https://HOST/PATH/FILE"),
        ("x=https://h:0/y", "is not https://HOST/PATH/FILE"),
        ("x=https://a..b/y", "is not https://HOST/PATH/FILE"),
        (f"x=https://{'a' * 70}/y", "is not https://HOST/PATH/FILE"),
        ("x=https://h/y/", "names no file"),
        ("x=https://h", "names no file"),
        ("x=https://h/a%2Fb", "names no file"),
        ("x=https://h/..", "names no file"),
        ("x=https://h/y#top", "behind # there can only be sha256="),
    ],
)
def test_bad_words(words: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        data.of_flags([words])


def test_one_name_twice() -> None:
    """The first of two sets of one name was dropped without a word."""
    with pytest.raises(InputError, match="--data train=/b: train is given twice"):
        data.of_flags(["train=/a", "eval=/a", "train=/b"])


def test_credentials_of_flags() -> None:
    """One for all sets in a store, one for a set, and one for a set of the job file."""
    sets = data.of_flags(["a=s3://b/a", "c=~/c", "d=s3://b/d"])
    chosen = data.with_credentials(sets, ["lab-s3", "d=partner", "e=other"])
    assert {one.name: one.credential for one in chosen} == {
        "a": "lab-s3", "c": "", "d": "partner", "e": "other"
    }  # fmt: skip
    below = (data.DataSet("e", "s3://b/e", "here"),)
    assert data.merged(below, chosen)[0] == data.DataSet("e", "s3://b/e", "here", "other")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("c=lab-s3", "a credential is for an object store"),
        ("lab-s3", "no --data is in a store"),
        ("c=lab s3", "'lab s3' cannot name a credential"),
        ("c/d=lab-s3", "--data-credential c/d=lab-s3: "),
    ],
)
def test_bad_credentials_of_flags(words: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        data.with_credentials(data.of_flags(["c=~/c"]), [words])


@pytest.mark.parametrize(
    "source",
    [
        "https://me:hunter2@h/y",
        "https://hunter2@h/y",
        "https://me:hunter2/x@h/y",
        "https://me:hun?ter2hunter2@h/y",
        "https://h/y?X-Amz-Signature=hunter2",
        "https://h/y?a=1&access_token=hunter2",
        "http://h/y?sig=hunter2&se=1",
        "s3://me:hunter2@bucket/y",
        "s3://bucket/y?sig=hunter2",
    ],
)
def test_secrets_in_urls_are_not_shown(source: str) -> None:
    with pytest.raises(InputError) as error:
        data.of_flags([f"x={source}"])
    assert "hunter2" not in f"{error.value.message} {error.value.hint}"


def test_addresses_of_files() -> None:
    """What a server is asked for, and what the file is called."""
    source = f"https://müller.example:80/a b/c%20d é.tar?x=ü#sha256={'A' * 64}"
    asked = "https://xn--mller-kva.example:80/a%20b/c%20d%20%C3%A9.tar?x=%C3%BC"
    assert address(source) == asked
    assert file_name(source) == "c d é.tar".encode()
    assert known_sum(source) == "a" * 64


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
        "data: {a: ftp://x/y}": "ftp:// is not supported",
        "data: {a: 'https://u:hunter2@x/y'}": "has a password",
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
    for there in ("gs://b/x", "az://c/{{run}}"):
        job = job_file.make({"flag": {"run": ("x.py",), "output_to": there}}, {})
        assert job.output_to == there
    for bad in ("/nfs", "gcs://b/x", "https://h/x", "s3://", "s3://b/{{rank}}"):
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
