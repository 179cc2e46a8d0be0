"""Shell completion, by a real bash: what a user gets who presses Tab."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import ROOT

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="no bash here")
SOURCE = 'eval "$(_LAUNCHER_COMPLETE=bash_source launcher)"'


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A user's: `launcher` on PATH, two runs, an inventory, and files to start."""
    program = tmp_path / "bin" / "launcher"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom launcher.cli import main\nmain()\n")
    program.chmod(0o755)
    for name in ("calm-owl-1", "calm-fox-2", "brave-hen-3"):
        (tmp_path / "home" / "runs" / name).mkdir(parents=True)
        (tmp_path / "home" / "runs" / name / "events.jsonl").touch()
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    for name in ("train.py", "job.yaml", "notes.txt", "data/first.bin"):
        (work / name).touch()
    (work / "inventory.yaml").write_text(
        "hosts:\n  gpu[1-2]:\n  big:\ngroups: {all-big: big, green: gpu1}\n"
    )
    (work / "other.yaml").write_text("hosts: [elsewhere]\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LAUNCHER_")}
    path = f"{program.parent}:{os.environ['PATH']}"
    added = {"PATH": path, "PYTHONPATH": str(ROOT), "LAUNCHER_HOME": str(tmp_path / "home")}
    return {**kept, **added, "PWD": str(work)}


def offered(env: dict[str, str], line: str) -> list[str]:
    """What bash's completion of a line would choose from; its last word is not finished."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"{_function(env)}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        'COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}\n'
        'compopt() { echo "<$*>"; }\n'
        f"_launcher_completion launcher '{words[-1]}' '{words[-2]}'\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        [str(BASH), "--norc", "-c", script],
        cwd=env["PWD"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


_SOURCES: list[str] = []


def _function(env: dict[str, str]) -> str:
    """What ``SOURCE`` evaluates: the same for all."""
    if not _SOURCES:
        asked = {**env, "_LAUNCHER_COMPLETE": "bash_source"}
        done = subprocess.run(["launcher"], env=asked, capture_output=True, text=True, check=True)
        _SOURCES.append(done.stdout)
    return _SOURCES[0]


FILES = ["<-o", "default>"]


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("launcher att", ["attach"]),
        ("launcher attach ca", ["calm-fox-2", "calm-owl-1"]),
        ("launcher logs --tail 5 br", ["brave-hen-3"]),
        ("launcher run --hosts g", ["green", "gpu1", "gpu2"]),
        ("launcher run --hosts gpu1,b", ["gpu1,big"]),
        ("launcher run -i other.yaml --hosts ", ["elsewhere"]),
        ("launcher run -i missing.yaml --hosts ", []),
        ("launcher run --framework torch", ["torch", "torchrun"]),
        ("launcher run tr", ["train.py"]),
        ("launcher run --gpus 4 jo", ["job.yaml"]),
        ("launcher run da", FILES),
        ("launcher run train.py no", FILES),
        ("launcher attach -i in", FILES),
    ],
)
def test_what_is_offered(env: dict[str, str], line: str, choices: list[str]) -> None:
    assert sorted(offered(env, line)) == sorted(choices)


def test_a_tab_at_a_prompt(env: dict[str, str]) -> None:
    """bash, a terminal, and the key itself."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(env["PWD"])
        os.execve(str(BASH), ["bash", "--norc", "-i"], {**env, "PS1": "$ ", "TERM": "dumb"})
    try:
        os.write(terminal, f"{SOURCE}; echo rea''dy\n".encode())
        until(terminal, "ready")
        os.write(terminal, b"echo launcher; launcher rm br\t")
        assert "brave-hen-3 " in until(terminal, "brave-hen-3 ")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def until(terminal: int, text: str) -> str:
    said, deadline = "", time.monotonic() + 40
    while text not in said and select.select([terminal], [], [], deadline - time.monotonic())[0]:
        said += os.read(terminal, 4096).decode()
    return said
