"""Jobs: layers of values and where each came from, secrets, and what is said about bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.api import jobs
from launcher.jobs import job_file
from launcher.spec.errors import DocumentError, InputError
from launcher.spec.model import Job, Resources, Secret
from support import CASE_FILES

CASES = CASE_FILES / "bad"

FULL = """\
name: ddp
workdir: code
num_nodes: 2
hosts: a100
resources: {gpus: 4, nproc_per_node: 2}
envs: {LR: 0.10, FLAG: yes}
secrets: [TOKEN]
setup: |
  pip install -r requirements.txt
run: train.py --name "a b"
outputs: [checkpoints, "*.log"]
framework: torch
master_addr: 10.0.0.1
master_port: 29500-29600
grace: 1m
"""


def from_file(text: str, **environment: str) -> Job:
    return job_file.make({"file": job_file.load(text, "job.yaml")}, environment)


def test_a_full_file() -> None:
    job = from_file(FULL, TOKEN="hunter2")
    assert job == Job(
        run=("train.py", "--name", "a b"),
        name="ddp",
        workdir="code",
        num_nodes=2,
        hosts="a100",
        resources=Resources(gpus=4, nproc_per_node=2),
        envs={"LR": "0.10", "FLAG": "yes"},
        secrets={"TOKEN": Secret("hunter2")},
        setup="pip install -r requirements.txt\n",
        outputs=("checkpoints", "*.log"),
        framework="torch",
        master_addr="10.0.0.1",
        master_port=(29500, 29600),
        grace=60.0,
        sources=job.sources,
    )
    assert job.sources["run"] == "file"
    assert job.sources["shell"] == "default"


def test_the_shortest_file() -> None:
    job = from_file("run: train.py")
    assert job == Job(run=("train.py",), sources=job.sources)
    assert set(job.sources) == set(vars(job)) - {"sources"}


@pytest.mark.parametrize(
    ("text", "run", "shell"),
    [
        ("run: [train.py, --epochs, 3]", ("train.py", "--epochs", "3"), False),
        ("run: |\n  train.py 'a b'  \\$x # comment", ("train.py", "a b", "$x"), False),
        ("run: echo $HOME | cat\nframework: env", ("echo $HOME | cat",), True),
        ("run: [echo, $HOME]\nframework: env", ("echo", "$HOME"), False),
        ("run: src/train.py\nframework: env", ("src/train.py",), False),
        ("run: train.py $HOME\nframework: env", ("train.py $HOME",), True),
    ],
)
def test_what_is_run(text: str, run: tuple[str, ...], shell: bool) -> None:
    job = from_file(text)
    assert (job.run, job.shell) == (run, shell)


@pytest.mark.parametrize(
    ("run", "script"),
    [
        (("train.py",), "train.py"),
        (("bin/go", "x"), "bin/go"),
        (("/usr/bin/env", "x"), None),
        (("python", "train.py"), None),
        (("-m", "train"), None),
    ],
)
def test_script(run: tuple[str, ...], script: str | None) -> None:
    assert Job(run).script == script


# -- layers


def test_higher_layers_win_and_say_so() -> None:
    layers = {
        "file": {"run": ("a.py",), "num_nodes": 2, "envs": {"A": "1", "B": "1"}, "grace": 5.0},
        "environment": {"num_nodes": 3, "hosts": "a100"},
        "flag": {"num_nodes": 4, "envs": {"B": "2"}},
    }
    job = job_file.make(layers, {})
    assert (job.num_nodes, job.hosts, job.grace) == (4, "a100", 5.0)
    assert job.envs == {"A": "1", "B": "2"}
    expected = {"run": "file", "num_nodes": "flag", "hosts": "environment", "grace": "file"}
    assert {name: job.sources[name] for name in expected} == expected
    assert job.sources["framework"] == "default"
    assert layers["file"]["envs"] == {"A": "1", "B": "1"}, "layers are not changed"


@pytest.mark.parametrize(
    "text",
    [
        "train.py --sep '|' --ops \"a && b\"",
        "train.py --pattern a|b --shape (2,3)",
        "train.py --text 'it is; so' # a > b",
        "python -c 'import sys; print(1 > 0)'",
    ],
)
def test_what_is_quoted_is_an_argument(text: str) -> None:
    assert job_file.make({"file": {"run": (text,)}}, {}).run[0] in ("train.py", "python")


@pytest.mark.parametrize(
    ("values", "error", "hint"),
    [
        ({}, "nothing to run", "launcher run train.py"),
        ({"run": ("# only a comment",)}, "nothing to run", ""),
        ({"run": ("x",), "framework": "torchrn"}, 'unknown framework "torchrn"', '"torchrun"?'),
        ({"run": ("x",), "framework": "PyTorch"}, 'unknown framework "PyTorch"', "torchrun: "),
        ({"run": ("x",), "envs": {"RANK": "1"}}, "RANK: it is computed", "leave it out"),
        ({"run": ("train.py 'a",)}, "No closing quotation", ""),
        ({"run": ("cd src\npython train.py",)}, 'this is a shell script ("cd")', "prepare:"),
        ({"run": ("cd", "src")}, "framework torchrun starts one command", "framework: env"),
        (
            {"run": ("python a.py", "--x")},
            "'python a.py' is a whole command, and '--x'",
            "as one text",
        ),
        ({"run": ("mpirun -np 2 x", "--lr")}, "'mpirun -np 2 x' is a whole", "as one text"),
        ({"run": ("/opt/python3.11 t.py", "--lr")}, "t.py' is a whole command", "as one text"),
        ({"run": ("uv run train.py", "--lr")}, "'uv run train.py' is a whole", "as one text"),
        ({"run": ("a; b", "--x")}, "'a; b' is a whole command", "as one text"),
        ({"run": ("python a.py && echo done",)}, 'this is a shell script ("&&")', "bash train.sh"),
        ({"run": ("python a.py > log.txt",)}, '(">")', "bash train.sh"),
        ({"run": ("python a.py 2>&1 | tee log",)}, '("2>&1")', "bash train.sh"),
        ({"run": ("python a.py; python b.py",)}, '("a.py;")', "bash train.sh"),
        ({"run": ("SEED=$N python a.py",)}, '("SEED=$N")', "envs:"),
        ({"run": ("conda activate x",)}, '("conda activate")', "python:"),
        ({"run": ("x",), "python": "pip:x"}, "--python: not a Python: 'pip:x'", ""),
        ({"run": ("x",), "grace": "soon"}, "--grace: not a duration: 'soon'", ""),
        ({"run": ("x",), "master_port": "http"}, "--master-port: not a port", ""),
        ({"run": ("x",), "resources": {"cpus": 3}}, "--resources: ", ""),
        ({"run": ("x",), "nodes": 3}, '"nodes"', 'did you mean "num_nodes"?'),
    ],
)
def test_values_that_cannot_be_used(values: dict[str, Any], error: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        job_file.make({"flag": values}, {})
    assert error in str(caught.value)
    assert hint in caught.value.hint


def test_make_job_takes_one_text_as_a_job_file_does(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    job = jobs.make_job(run="train.py --lr 1", workdir=str(tmp_path))
    assert job.run == ("train.py", "--lr", "1")


def test_make_job_takes_what_a_job_file_may_say(tmp_path: Path) -> None:
    job = jobs.make_job(
        run="a b",
        workdir=str(tmp_path),
        framework="env",
        master_port=29500,
        grace="1m",
        resources={"gpus": 2},
    )
    assert (job.master_port, job.grace, job.resources.gpus) == ((29500, 29500), 60.0, 2)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(InputError, match=r"there is no trian\.py") as caught:
        jobs.make_job(run=("trian.py",), workdir=str(tmp_path))
    assert caught.value.hint == 'did you mean "train.py"?'


# -- secrets


@pytest.mark.parametrize("text", ["[TOKEN]", "TOKEN", "{TOKEN: }", "{TOKEN: hunter2}"])
def test_secrets_come_from_the_environment_or_the_file(text: str) -> None:
    job = from_file(f"run: x\nsecrets: {text}", TOKEN="hunter2")
    assert job.secrets["TOKEN"].reveal() == "hunter2"


def test_secrets_of_several_layers() -> None:
    layers = {
        "file": {"run": ("x",), "secrets": {"A": None, "B": "file"}},
        "flag": {"secrets": {"B": None}},
    }
    job = job_file.make(layers, {"A": "1", "B": "2"})
    assert {name: secret.reveal() for name, secret in job.secrets.items()} == {"A": "1", "B": "2"}


def test_a_secret_that_is_not_set() -> None:
    with pytest.raises(InputError, match="secret TOKEN is not set in your environment") as caught:
        from_file("run: x\nsecrets: [TOKEN]")
    assert "export TOKEN=" in caught.value.hint


def test_no_text_shows_a_secret() -> None:
    job = from_file("run: x\nsecrets: {TOKEN: hunter2}")
    secret = job.secrets["TOKEN"]
    for text in (repr(job), str(job), str(secret), f"{secret}", f"{secret!r}", str(vars(job))):
        assert "hunter2" not in text
    assert secret == Secret("hunter2")
    assert secret != Secret("hunter3")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2")}) == 1


# -- single values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert job_file.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1", "1 h", "1w", "1e3", "30s\n", "nan", "inf"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        job_file.seconds(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [("29500", (29500, 29500)), ("1-65535", (1, 65535)), ("29500-29500", (29500, 29500))],
)
def test_ports(text: str, ports: tuple[int, int]) -> None:
    assert job_file.port_range(text) == ports


@pytest.mark.parametrize("text", ["", "-", "0", "65536", "2-1", "29500-", "-29500", "a", "1-2-3"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a (port or a )?range of ports"):
        job_file.port_range(text)


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "a\n", "x" * 42, "ä"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        job_file.job_name(name)


@pytest.mark.parametrize(
    "case", yaml.safe_load((CASES / "jobs.yaml").read_text()), ids=lambda case: case["name"]
)
def test_bad_job(case: dict[str, Any]) -> None:
    with pytest.raises(DocumentError) as caught:
        job_file.load(case["text"], "job.yaml")
    place, message = str(caught.value).split(": ", 1)
    assert place == f"job.yaml:{case['line']}"
    assert case["error"] in message
    assert case.get("hint", "") in caught.value.hint
