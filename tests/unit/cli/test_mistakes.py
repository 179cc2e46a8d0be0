"""What people type by mistake, and what they are told: one voice, and the next thing to type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command import Launcher


@pytest.fixture
def typed(tmp_path: Path) -> Launcher:
    """A user without any host."""
    work = tmp_path / "work"
    work.mkdir()
    return Launcher(tmp_path / "lab.yaml", work, tmp_path / "home")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("run", "missing argument 'JOB.yaml | SCRIPT [ARGS]...'", "launcher run --help"),
        ("logs", "missing argument 'RUN'", "launcher logs --help"),
        (
            "logs --tail -5 x",
            "invalid value for '--tail': -5 is less than 0",
            "launcher logs --help",
        ),
        ("logs --tail x x", "invalid value for '--tail': 'x' is no whole number", ""),
        (
            "console --port 99999",
            "'--port': 99999 is not from 0 to 65535",
            "launcher console --help",
        ),
        ("schema", "missing argument '{inventory|job|settings}'", "launcher schema --help"),
        ("check --no-pair", "no option --no-pair", 'did you mean "--no-pairs"?'),
        ("check --zzz", "launcher check has no option --zzz", "launcher check --help lists"),
        ("tail x", 'there is no command "tail"', "launcher logs -f RUN"),
        ("sinfo", 'there is no command "sinfo"', "launcher gpus"),
        ("clean", 'there is no command "clean"', "launcher prune asks before it deletes"),
        ("cp a b", 'there is no command "cp"', "launcher pull RUN"),
        ("export slrum x.yaml", 'no command "launcher export slrum"', 'did you mean "slurm"?'),
        ("run -n 2 t.py", "launcher run has no option -n", "-N N: hosts; --nproc-per-node N"),
        ("run -z t.py", "launcher run has no option -z", "launcher run --help lists"),
        ("run --walltime 1h t.py", "no option --walltime", "--time 6h ends a run six hours after"),
        ("run --conda-env x t.py", "no option --conda-env", "--conda NAME"),
        ("run --mem 10G t.py", "no option --mem", "set resources: of a role"),
        ("run --gpus A100 t.py", "'A100' is no number of GPUs, such as A100:1", ""),
        ("run nb.ipynb", "nb.ipynb is a notebook", "jupyter nbconvert --to script nb.ipynb"),
        ("run sub", "sub is a folder", "name a script in it: launcher run sub/SCRIPT"),
        (
            "run ../outside.py",
            "../outside.py is outside the workdir",
            "launcher run --workdir .. outside.py",
        ),
        (
            "run --share d --data a=sub:d t.py",
            "share: d and the data set a at d overlap",
            "share an",
        ),
        ("run --share d/x --data a=sub:d t.py", "share: d/x and the data set a at d overlap", ""),
        ("run --share d --data a=sub:d/e t.py", "share: d and the data set a at d/e overlap", ""),
        ("import sky x.yaml", 'unknown format "sky"', 'did you mean "skypilot"?'),
        (
            "exec uname -r",
            "there are no runs here",
            "launcher ls shows all runs; on hosts, without a run: launcher exec --hosts HOSTS -- COMMAND",
        ),
        ("help rnu", 'there is no command "rnu"', 'did you mean "run"?'),
    ],
)
def test_a_command_line(typed: Launcher, words: str, error: str, hint: str) -> None:
    (typed.work / "sub").mkdir()
    (typed.work / "x.yaml").write_text("run: x")
    (typed.work.parent / "outside.py").write_text("pass")
    done = typed.call(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert error in done.stderr
    assert f"  hint: {hint}" in done.stderr or not hint
    assert len(done.stderr.splitlines()) <= 2
    assert "Usage:" not in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("run: t.py\ngpus: 2\n", "resources: {gpus: 8}, the total over all hosts"),
        ("command: t.py\n", "run: train.py --epochs 3"),
        ("run: t.py\ntime_limit: 1h\n", "time: 6h ends a run"),
        ("run: t.py\nlease: 1h\n", "(--orphan-timeout) one that nobody follows"),
        ("run: t.py\nresources: {cpus: 2}\n", "resources: of a role, as roles: {worker:"),
        (
            "run: t.py\nresources: {accelerators: A100:8}\nfile_mounts: {}\n",
            "launcher import skypilot",
        ),
        ("run: t.py\nconda: train\n", "environment: {conda: NAME}"),
        ("hosts:\n  gpu1: {}\n", "this is an inventory: launcher run -i job.yaml SCRIPT"),
    ],
)
def test_a_job_file(typed: Launcher, text: str, hint: str) -> None:
    (typed.work / "job.yaml").write_text(text)
    done = typed.call("run", "--dry-run", "job.yaml")
    assert done.returncode == 2
    assert hint in done.stderr


@pytest.mark.thorough
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


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "note"),
    [
        ("t.py --gpus 1", "--gpus 1 goes to t.py; for launcher write launcher run --gpus 1 t.py"),
        ("t.py --lr 1 --hosts=a --nodes 2 x", "write launcher run --hosts=a --nodes 2 t.py"),
        ("python t.py --gpus 1", "write launcher run --gpus 1 python t.py"),
        ("t.py --lr 1", ""),
    ],
)
def test_options_behind_the_script(typed: Launcher, words: str, note: str) -> None:
    (typed.work / "t.py").write_text("pass")
    typed.inventory.write_text("hosts: [gpu1]")
    done = typed.call("run", "-i", str(typed.inventory), "--dry-run", *words.split())
    assert done.returncode == 0
    assert note in done.stderr if note else not done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "error", "code", "hint"),
    [
        ("run --json --dry-run x.py", "there is no x.py in", "bad-input", "paths are relative"),
        ("show --json x", "there are no runs here", "unknown-run", "launcher ls shows all runs"),
        ("ls --json --zzz", "launcher ls has no option --zzz", "bad-input", "launcher ls --help"),
        ("run --gpu 1 --json x.py", "launcher run has no option --gpu", "bad-input", "--gpus N?"),
    ],
)
def test_programs_get_errors_as_json(
    typed: Launcher, words: str, error: str, code: str, hint: str
) -> None:
    done = typed.call(*words.split())
    told = json.loads(done.stdout)
    assert (told["code"], told["exit_code"], done.returncode) == (code, 2, 2)
    assert error in told["error"]
    assert hint in told["hint"]
    assert f"error: {told['error']}" in done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("words", ["run --dry-run x.py --json", "exec x -- show --json"])
def test_json_behind_a_script_is_not_ours(typed: Launcher, words: str) -> None:
    assert typed.call(*words.split()).stdout == ""
