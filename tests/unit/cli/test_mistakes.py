"""What people type by mistake, and what they are told: one voice, and the next thing to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import Launcher


@pytest.fixture
def typed(tmp_path: Path) -> Launcher:
    """A user without any host."""
    work = tmp_path / "work"
    work.mkdir()
    return Launcher(tmp_path / "lab.yaml", work, tmp_path / "home")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("run", "missing argument 'JOB.yaml | SCRIPT [ARGS]...'", "launcher run --help"),
        ("logs", "missing argument 'RUN'", "launcher logs --help"),
        ("logs --tail -5 x", "invalid value for '--tail'", "launcher logs --help"),
        ("check --no-pair", "no option --no-pair", 'did you mean "--no-pairs"?'),
        ("check --zzz", "launcher check has no option --zzz", "launcher check --help lists"),
        ("tail x", 'there is no command "tail"', "launcher logs -f RUN"),
        ("sinfo", 'there is no command "sinfo"', "launcher gpus"),
        ("clean", 'there is no command "clean"', "launcher prune asks before it deletes"),
        ("cp a b", 'there is no command "cp"', "launcher pull RUN"),
        ("help rnu", 'there is no command "rnu"', 'did you mean "run"?'),
    ],
)
def test_a_command_line(typed: Launcher, words: str, error: str, hint: str) -> None:
    done = typed.call(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert error in done.stderr
    assert f"  hint: {hint}" in done.stderr
    assert "Usage:" not in done.stderr


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("run: t.py\ngpus: 2\n", "resources: {gpus: 8}, the total over all hosts"),
        ("command: t.py\n", "run: train.py --epochs 3"),
        ("run: t.py\ntime_limit: 1h\n", "launcher run --time 6h JOB.yaml"),
        ("run: t.py\nlease: 1h\n", "--orphan-timeout ends a run that nobody follows"),
        ("run: t.py\nconda: train\n", "python: conda:NAME"),
        ("hosts:\n  gpu1: {}\n", "this is an inventory: launcher run -i job.yaml SCRIPT"),
    ],
)
def test_a_job_file(typed: Launcher, text: str, hint: str) -> None:
    (typed.work / "job.yaml").write_text(text)
    done = typed.call("run", "--dry-run", "job.yaml")
    assert done.returncode == 2
    assert hint in done.stderr


def test_help_and_version(typed: Launcher) -> None:
    for words, begins in (
        (("help",), "Usage: launcher [OPTIONS] COMMAND"),
        (("help", "run"), "Usage: launcher run [OPTIONS]"),
        (("help", "sweep", "ls"), "Usage: launcher sweep ls"),
        (("version",), "0."),
    ):
        done = typed.call(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(begins)
