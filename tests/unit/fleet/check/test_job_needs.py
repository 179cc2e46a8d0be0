"""What a job needs of each host, read from the job and its scripts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.api import jobs
from launcher.fleet.check.job_needs import outside, questions_of
from launcher.fleet.findings.script_imports import needed
from launcher.jobs.job_file import load
from launcher.spec.errors import DocumentError
from support import ROOT


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b, c as d", ("a.b", "c")),
        ("from a.b import c", ("a.b", "a.b.c")),
        ("from . import x\nfrom ..y import z", (".", ".x", "..y", "..y.z")),
        ("try:\n  import a\nexcept (ImportError, OSError): pass", ()),
        ("try:\n  import a\nexcept KeyError: pass\nfinally:\n  import b", ("a", "b")),
        ("def f():\n  import a", ()),
        ("if TYPE_CHECKING:\n  import a", ()),
        ("if __name__ == '__main__':\n  import a", ("a",)),
        ("with x:\n  import a\nclass C:\n  import b", ("a", "b")),
    ],
)
def test_imports_that_a_script_cannot_do_without(text: str, names: tuple[str, ...]) -> None:
    assert needed(text) == names


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_own_modules_are_followed_and_not_asked_for(tmp_path: Path) -> None:
    files = {
        "main.py": "import pkg.deep, numpy",
        "pkg/__init__.py": "from .deep import x",
        "pkg/deep.py": "import far_one\nfrom . import other",
        "pkg/other.py": "import far_two",
        "unused.py": "import far_three",
        "torch.log": "",
        "broken.py": "import (",
    }
    _write(tmp_path, files)
    job = jobs.make_job(run=("main.py", "x"), workdir=str(tmp_path))
    assert outside(job) == {"numpy", "far_one", "far_two"}
    module = jobs.make_job(run=("-m", "pkg.deep"), workdir=str(tmp_path))
    assert outside(module) == {"far_one", "far_two"}
    assert outside(jobs.make_job(run=("-m", "lightning.run"), workdir=str(tmp_path))) == {
        "lightning"
    }
    shell = jobs.make_job(
        run="cd . && python main.py 'it\\'s", framework="env", workdir=str(tmp_path)
    )
    assert outside(shell) == {"numpy", "far_one", "far_two"}


def test_questions_hold_no_secret(tmp_path: Path) -> None:
    _write(tmp_path, {"main.py": ""})
    job = jobs.make_job(
        run="main.py", workdir=str(tmp_path), envs={"A": "1"}, secrets={"S": "hush"}
    )
    assert "hush" not in repr(questions_of(job))


def test_needs_are_whole_paths() -> None:
    with pytest.raises(DocumentError) as caught:
        load("run: x\nneeds: [/data, data]\n", "job.yaml")
    assert str(caught.value).startswith("job.yaml:2: 'data' is not an absolute path")


def test_the_examples_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the examples import beyond themselves is known to the environment of the tests."""
    monkeypatch.setenv("_SPARK_AUTH_SECRET", "x")
    known = {
        "torch",
        "numpy",
        "sklearn",
        "horovod",
        "mpi4py",
    }  # here; the others have their own environments
    heavier = {"accelerate", "dask", "deepspeed", "jax", "lightning", "mxnet", "ray", "tensorflow"}
    heavier |= {"pyspark", "sglang", "verl", "vllm"}  # the last three need GPUs
    for file in sorted((ROOT / "examples").glob("*/job.yaml")):
        job = jobs.layered_job({"file": jobs.load_job(file)})
        assert outside(job) <= {*sys.stdlib_module_names, *known, *heavier}
