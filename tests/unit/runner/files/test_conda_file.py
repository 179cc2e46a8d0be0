"""What a file of conda must be for hosts to build an environment of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.jobs import make_job
from launcher.runner.files import conda_file
from launcher.spec.errors import InputError

GOOD = """\
name: train
channels: [conda-forge]
dependencies:
- python=3.12
- pip
- pip:
  - -r ../more.txt
  - torch @ https://example.com/torch.whl
  - -e git+https://example.com/x.git#egg=x
  - ./dist/x-1-py3-none-any.whl
"""


def test_a_file_as_conda_takes_it(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "gpu.yml").write_text(GOOD)
    for name in ("more.txt", "train.py"):
        (tmp_path / name).touch()
    job = make_job(
        run=("train.py",), workdir=str(tmp_path), environment={"conda": "./envs/gpu.yml"}
    )
    assert job.environment
    assert (job.environment.recipe, job.environment.python) == ("envs/gpu.yml", None)
    assert str(job.environment) == "environment built from envs/gpu.yml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "environment.yml:1: the file is empty"),
        ("- python\n", "environment.yml:1: expected a mapping with dependencies:"),
        ("name: x\n", "environment.yml:1: environment.yml has no dependencies:"),
        ("dependencies:\n- python\n- npm: [x]\n", "environment.yml:3: unknown installer npm"),
        ("dependencies: python\n", "environment.yml:1: dependencies must be a list of packages"),
        ("dependencies:\n- pip:\n  - -e .\n", "environment.yml:3: -e . is a local path"),
        (
            "dependencies:\n- pip:\n  - x @ file:///srv/x\n",
            "environment.yml:3: x @ file:///srv/x is",
        ),
        (
            "dependencies:\n- pip:\n  - -r none.txt\n",
            "environment.yml:3: there is no none.txt beside",
        ),
        ("dependencies:\n- pip: [-r ../x.txt]\n", "environment.yml:2: ../x.txt is outside"),
        ("dependencies: [a\n", "environment.yml:2: not YAML"),
    ],
)
def test_what_it_must_not_be(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.txt").touch()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "environment.yml").write_text(text)
    with pytest.raises(InputError) as raised:
        conda_file.check(tmp_path / "work", "environment.yml")
    assert said in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"conda: there is no environment\.yml in") as raised:
        conda_file.check(tmp_path, "environment.yml")
    assert raised.value.hint == "conda env export --from-history > environment.yml writes one"
    (tmp_path / "environment.yml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        conda_file.check(tmp_path, "environment.yml")
