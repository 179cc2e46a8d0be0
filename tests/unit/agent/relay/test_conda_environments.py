"""Environments that a host builds of environment.yml, by a fake of micromamba (see conda_tools)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.relay import usage
from launcher.agent.relay.environments import Environments
from launcher.runner.policy import environments as policy
from launcher.spec.environments import CONDA_BUILDERS, Environment
from launcher.transport.answers.environments import Environment as EnvironmentThere
from launcher.transport.answers.reading import read
from support.conda_tools import micromamba
from support.wheels import write_wheel

FILE = "channels: [conda-forge]\ndependencies:\n- python=3.12\n- tiny\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host's folder, with the code of two runs; its micromamba is in ~/.local/bin."""
    root = tmp_path / "root"
    for run in ("one", "two"):
        code = root / "runs" / run / "code"
        code.mkdir(parents=True)
        (code / "environment.yml").write_text(FILE)
    for name in ("CONDA_EXE", "MAMBA_EXE", "MAMBA_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    micromamba(tmp_path / ".local" / "bin" / "micromamba")
    yield root
    for path in (root / "envs").glob("locks/*"):
        path.unlink()


def asked(host: Environments, run: str = "one", **more: Any) -> EnvironmentThere:
    """Ask once."""
    wanted = {"builder": "conda", "path": "environment.yml", "wheels": "", "may_pip": False}
    answer = host.answer({**wanted, "finder": CONDA_BUILDERS, "run": run, **more})
    return read(EnvironmentThere, "gpu1", "environment", answer)


def ended(host: Environments, run: str = "one", **more: Any) -> EnvironmentThere:
    """Ask until it is there, or has failed."""
    deadline = time.monotonic() + 180
    while (answer := asked(host, run, **more)).state in ("building", "busy"):
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer


def said_by(python: str, text: str) -> str:
    """Return what a Python prints."""
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def left(root: Path) -> list[str]:
    """Return what there is of environments, but their locks."""
    return sorted(path.name for path in (root / "envs").iterdir() if path.name != "locks")


def builds(root: Path) -> int:
    """Return how often something was built."""
    path = root.parent / "builds"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_it_is_built_once_with_what_pip_installs(root: Path) -> None:
    code = root / "runs/one/code"
    write_wheel(code / "wheels", "extra", "2.0")
    pip = "- pip\n- pip:\n  - --find-links ../wheels\n  - -r ../more.txt  # as everybody\n"
    (code / "envs").mkdir()
    (code / "envs/gpu.yaml").write_text(FILE + pip)
    (code / "more.txt").write_text("extra\n")
    before = sorted(path.name for path in code.iterdir())
    host = Environments(str(root))
    first = asked(host, path="envs/gpu.yaml")
    assert (first.state, first.said) == ("building", "with micromamba")
    there = ended(host, path="envs/gpu.yaml")
    assert there.state == "there", there
    assert (
        said_by(there.python, "import tiny, extra; print(tiny.version, extra.version)") == "1.0 2.0"
    )
    assert sorted(path.name for path in code.iterdir()) == before
    assert len(left(root)) == 3, "the link, the folder and the log"
    assert asked(Environments(str(root)), path="envs/gpu.yaml") == there, "at once"
    (code / "more.txt").write_text("extra==2.0\n")
    assert ended(Environments(str(root)), path="envs/gpu.yaml").python != there.python, (
        "what pip reads counts as well"
    )
    assert builds(root) == 2


def test_two_that_want_it_at_once(root: Path) -> None:
    for run in ("one", "two"):
        (root / f"runs/{run}/code/environment.yml").write_text(f"{FILE}- slow\n")
    first, second = Environments(str(root)), Environments(str(root))
    assert asked(first).state == "building"
    assert asked(second, "two").state == "busy"
    (root.parent / "go").touch()
    there = ended(first)
    assert there.state == "there", there
    assert ended(second, "two") == there
    assert builds(root) == 1


_BUILDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from launcher.agent.relay.environments import Environments
host = Environments(sys.argv[2])
wanted = {"builder": "conda", "path": "environment.yml", "wheels": "", "may_pip": False}
while True:
    host.answer({**wanted, "finder": sys.argv[3], "run": "one"})
    time.sleep(0.02)
"""


def test_a_build_that_was_killed_leaves_no_process_and_no_environment(root: Path) -> None:
    (root / "runs/one/code/environment.yml").write_text(f"{FILE}- slow\n")
    here = Path(__file__).parents[4]
    words = [sys.executable, "-c", _BUILDER, str(here), str(root), CONDA_BUILDERS]
    slow = root.parent / "slow"
    with subprocess.Popen(words) as agent:
        _until(lambda: slow.exists() and slow.read_text(), "it builds")
        child = int(slow.read_text())
        agent.send_signal(signal.SIGKILL)
    _until(lambda: not _is_alive(child), "what the tool has started ends")
    half = left(root)
    assert any(name.count(".") == 1 for name in half), half
    assert not any(name.count(".") == 0 for name in half), "it is not there"
    (root.parent / "go").touch()
    assert ended(Environments(str(root))).state == "there"
    assert not set(left(root)) & set(half), "what was left of it is gone"


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _until(is_so: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("more", "said", "hint"),
    [
        (
            "- nope=3\n- none\n",
            "by micromamba: Could not solve for environment specs: nope=3 does not exist (perhaps a typo "
            "or a missing channel); none does not exist (perhaps a typo or a missing channel)",
            "all of its output: LOG",
        ),
        (
            "- away\n",
            "Could not resolve hostname [https://conda.example.com/linux-64/repodata.json.zst]",
            "channels: [file:///srv/channel]",
        ),
        (
            "- pip: [absent==1]\n",
            "Could not find a version that satisfies the requirement absent==1",
            "all of its output",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_its_words(
    root: Path, more: str, said: str, hint: str
) -> None:
    (root / "runs/one/code/environment.yml").write_text(FILE + more)
    found = ended(Environments(str(root)))
    assert found.state == "failed"
    error = policy.not_built("gpu1", Environment(conda="environment.yml"), found, "LOG")
    assert str(error).startswith("gpu1: the environment of environment.yml cannot be built by ")
    assert said in str(error)
    assert hint in error.hint
    assert left(root) == []


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("[slow]", "it brings no Python: add python to what environment.yml wants"),
        ("[old]", "it brings Python 3.6, and launcher needs 3.8 or newer"),
    ],
)
def test_its_python_is_looked_at(root: Path, listed: str, said: str) -> None:
    (root.parent / "go").touch()
    (root / "runs/one/code/environment.yml").write_text(f"dependencies: {listed}\n")
    found = ended(Environments(str(root)))
    assert (found.state, policy.cause(found.log, "conda")) == ("failed", said)
    assert left(root) == []


def test_which_tool_builds_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Startup files say where one is; one that does not work is passed over, and one can be brought."""
    home = root.parent
    (home / ".local/bin/micromamba").rename(home / "elsewhere")
    (host := Environments(str(root)))
    absent = asked(host)
    assert (absent.state, absent.machine) == ("no-builder", os.uname().machine)
    error = policy.without_builder("gpu1", Environment(conda="environment.yml"), absent.machine)
    assert "there is no micromamba, mamba or conda, and no micromamba here" in str(error)
    assert asked(host, look=True).state == "no-builder"
    broken = micromamba(home / "bin/micromamba")
    broken.write_text("#!/bin/sh\nexit 127\n")
    assert asked(host).state == "no-builder"
    brought = Path(absent.tools) / "micromamba-1-2"
    micromamba(brought / "micromamba")
    assert asked(host, look=True) == EnvironmentThere("there", said="2.0.5", tool="micromamba")
    (brought / "micromamba").unlink()
    (home / "else").mkdir()
    (home / "elsewhere").rename(home / "else/micromamba")
    (home / ".bashrc").write_text(f"# >>> mamba\nexport MAMBA_EXE='{home}/else/micromamba';\n")
    assert ended(host).state == "there"
    (home / ".bashrc").unlink()
    conda = micromamba(home / "miniconda3/bin/conda")
    conda.write_text('#!/bin/sh\n[ "$1" = --version ] && echo conda 24.1\n')
    assert asked(host, look=True).said == "conda 24.1"


def test_what_nobody_uses_is_removed(root: Path) -> None:
    host = Environments(str(root))
    key = Path(ended(host).python).parts[-3]
    assert usage.prune(str(root), [], [], [], False, [key]) == [key], (
        "a run is about to start with it"
    )
    host._unlock(key)
    (listed,) = usage.usage(str(root), lambda: None)["envs"]
    assert (listed["env"], listed["in_use"]) == (key, False)
    assert usage.prune(str(root), [], [], [], False, [key]) == []
    assert left(root) == []
