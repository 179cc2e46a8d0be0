"""Environments that a host builds of pixi.lock, by a fake of pixi (see conda_tools)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base.protocol import Refused
from launcher.agent.relay.environments import Environments
from launcher.jobs.activation import activation
from launcher.runner.policy import environments as policy
from launcher.spec.environments import Environment
from launcher.transport.answers.environments import Environment as EnvironmentThere
from launcher.transport.answers.reading import read
from support.conda_tools import pixi

MANIFEST = """\
[workspace]
channels = ["conda-forge"]
[activation]
scripts = ["tools/on.sh"]
"""
WANTED = {"builder": "pixi", "path": ".", "wheels": "", "may_pip": False, "finder": ""}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The code of a run; the host's pixi is in ~/.pixi/bin alone."""
    code = tmp_path / "root" / "runs" / "one" / "code"
    (code / "tools").mkdir(parents=True)
    (code / "tools" / "on.sh").write_text("export ON=$PIXI_PROJECT_ROOT\n")
    (code / "pixi.toml").write_text(MANIFEST)
    (code / "pixi.lock").write_text("version: 6\n")
    monkeypatch.delenv("PIXI_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    pixi(tmp_path / ".pixi" / "bin" / "pixi")
    yield code
    for path in (tmp_path / "root" / "envs").glob("locks/*"):
        path.unlink()


def ended(code: Path) -> EnvironmentThere:
    """Ask until it is there, or has failed."""
    host, deadline = Environments(str(code.parents[2])), time.monotonic() + 180
    while True:
        answer: Any = host.answer({**WANTED, "run": "one"})
        found = read(EnvironmentThere, "gpu1", "environment", answer)
        if found.state not in ("building", "busy"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def _shown(python: str) -> str:
    text = activation(Environment(pixi="."), python)
    text += '\necho "$CONDA_PREFIX $ON"; python -c "import tiny; print(tiny.version)"'
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.stdout


def test_it_is_built_once_and_activated_as_pixi_says(code: Path) -> None:
    there = ended(code)
    assert there.state == "there", there
    prefix = there.python.removesuffix("/bin/python")
    root = prefix.removesuffix("/.pixi/envs/default")
    assert _shown(there.python) == f"{prefix} {root}\n1.0\n"
    assert ended(code) == there
    assert not (code / ".pixi").exists()
    (code / "tools/on.sh").write_text("export ON=2\n")
    other = ended(code)
    assert other.python != there.python, "what activates it counts as well"
    assert " 2\n" in _shown(other.python)
    # A host whose pixi is gone has the environment all the same.
    (code.parents[3] / ".pixi/bin/pixi").unlink()
    assert _shown(there.python) == f"{prefix} \n1.0\n"


def test_folders_of_the_code_are_not_installed(code: Path) -> None:
    lock = "version: 6\npackages:\n- pypi: ./\n  name: job\n  version: 0.1.0\n  editable: true\n"
    (code / "pixi.lock").write_text(lock + "- pypi: https://example.com/x.whl\n  name: x\n")
    (code / "pixi.toml").rename(code / "pyproject.toml")
    there = ended(code)
    assert there.state == "there", there
    assert "1.0" in _shown(there.python)


@pytest.mark.parametrize(
    ("lock", "said", "hint"),
    [
        (
            "outdated",
            ": lock-file not up-to-date with the workspace",
            "pixi lock --manifest-path . here brings the lock up to date",
        ),
        (
            "away",
            ": failed to fetch tiny: error sending request for url (https://conda.example.com/",
            "[mirrors] in its ~/.pixi/config.toml",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_its_words(
    code: Path, lock: str, said: str, hint: str
) -> None:
    (code / "pixi.lock").write_text(f"version: 6  # {lock}\n")
    found = ended(code)
    assert found.state == "failed"
    error = policy.not_built("gpu1", Environment(pixi="."), found, "LOG")
    assert f"gpu1: the environment of . cannot be built by pixi{said}" in str(error)
    assert hint in error.hint
    assert [path.name for path in (code.parents[2] / "envs").iterdir()] == ["locks"]


def test_what_is_missing(code: Path) -> None:
    (code.parents[3] / ".pixi/bin/pixi").unlink()
    assert ended(code).state == "no-builder"
    error = policy.without_builder("gpu1", Environment(pixi="."), os.uname().machine)
    assert "there is no pixi, and none here that could be brought to it" in str(error)
    (code / "pixi.lock").unlink()
    with pytest.raises(Refused, match=r"the run's code has no pixi\.lock"):
        ended(code)
