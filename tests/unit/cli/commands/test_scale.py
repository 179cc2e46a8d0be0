"""`launcher scale` refuses bad input before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from launcher.cli.commands.scale import command
from launcher.spec.errors import InputError


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything starts, and no run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    Path("lab.yaml").write_text("hosts: {a: {}, b: {}, c: {}}\n")
    Path("train.py").touch()
    Path("gpus.yaml").write_text("run: train.py\nresources: {gpus: 4}\n")
    Path("roles.yaml").write_text("run: train.py\nroles: {worker: {replicas: 2}}\n")
    wrong = {
        "--nodes 4: there are only 3 hosts": ["--nodes", "1,4", "train.py"],
        "a trial needs at least 1 host": ["--nodes", "0,1", "train.py"],
        "--nodes: ": ["--nodes", "many", "train.py"],
        "has 0 groups": ["--pattern", "samples", "train.py"],
        "--for: not a duration": ["--for", "soon", "train.py"],
        "--for 0s: must be more": ["--for", "0s", "train.py"],
        "leaves nothing of --for": ["--for", "5s", "--warmup", "5s", "train.py"],
        "total over all hosts": ["gpus.yaml"],
        "roles fix the number of processes": ["roles.yaml"],
        "no such folder": ["-o", "nowhere/speed.svg", "train.py"],
    }
    for message, words in wrong.items():
        done = CliRunner().invoke(command, ["-i", "lab.yaml", *words])
        assert isinstance(done.exception, InputError), (words, done.exception)
        assert message in str(done.exception)
    assert not (tmp_path / "home").exists()
