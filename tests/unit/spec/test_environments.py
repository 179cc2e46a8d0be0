"""How a Python on a host is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.spec.environments import conda_name, python_path
from launcher.spec.model import Host
from launcher.transport import agent_bundle


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("python3.12", "python3.12"),
        ("~/env/bin/python", "~/env/bin/python"),
        ("venv:~/env/", "~/env/bin/python"),
        ("venv:$SCRATCH/env", "$SCRATCH/env/bin/python"),
        ("conda:/opt/envs/x", "/opt/envs/x/bin/python"),
        ("conda:train-2.1", "conda:train-2.1"),
    ],
)
def test_a_python_has_several_names(given: str, path: str) -> None:
    assert python_path(given) == path
    assert conda_name(path) == ("train-2.1" if given == "conda:train-2.1" else None)


@pytest.mark.parametrize("given", ["", "conda:", "venv:", "conda:a b", "conda:$(id)", "docker:x"])
def test_what_names_no_python(given: str) -> None:
    with pytest.raises(ValueError, match="venv:DIR or conda:NAME"):
        python_path(given)


def found(home: Path, name: str) -> str:
    """Return what the lines for a host say of a conda environment, in a home."""
    script = agent_bundle._places(Host("a", python=f"conda:{name}")) + 'echo "$p"'
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_conda_environments_are_found_without_conda(tmp_path: Path) -> None:
    """By conda's own list, else where it is usually installed."""
    for place in ("miniconda3", "miniconda3/envs/train", "elsewhere/special"):
        python = tmp_path / place / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to("/bin/true")
    assert found(tmp_path, "train") == f"{tmp_path}/miniconda3/envs/train/bin/python"
    assert found(tmp_path, "base") == f"{tmp_path}/miniconda3/bin/python"
    assert found(tmp_path, "special") == "launcher-no-conda special train"
    (tmp_path / ".conda").mkdir()
    (tmp_path / ".conda/environments.txt").write_text(
        f"/gone/special\n{tmp_path}/elsewhere/special\n"
    )
    assert found(tmp_path, "special") == f"{tmp_path}/elsewhere/special/bin/python"


def test_a_conda_that_only_an_interactive_shell_sees_is_found(tmp_path: Path) -> None:
    """By what ``conda init`` and mamba wrote into startup files."""
    for place in ("my tools/conda/envs/a", "mamba root/envs/b", "miniconda3/envs/bare/conda-meta"):
        python = tmp_path / place / "bin" / "python"
        python.parent.mkdir(parents=True)
        if "bare" not in place:
            python.symlink_to("/bin/true")
    (tmp_path / ".bashrc").write_text(
        "case $- in *i*) ;; *) return;; esac\n"
        f"__conda_setup=\"$('{tmp_path}/my tools/conda/bin/conda' 'shell.bash' 'hook' 2> /dev/null)\"\n"
    )
    (tmp_path / ".zshrc").write_text(f"export MAMBA_ROOT_PREFIX='{tmp_path}/mamba root';\n")
    assert found(tmp_path, "a") == f"{tmp_path}/my tools/conda/envs/a/bin/python"
    assert found(tmp_path, "b") == f"{tmp_path}/mamba root/envs/b/bin/python"
    assert found(tmp_path, "bare") == f"launcher-no-conda-python {tmp_path}/miniconda3/envs/bare"
    assert found(tmp_path, "none") == "launcher-no-conda none a b bare"
