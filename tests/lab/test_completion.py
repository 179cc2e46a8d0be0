"""Shell completion, by a real bash: what a user gets who presses Tab."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
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
    (tmp_path / "home" / "runs" / "calm-owl-1" / "receipt.json").touch()
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
    return [line for line in done.stdout.splitlines() if line not in ("", "<-o filenames>")]


_SOURCES: list[str] = []


def _function(env: dict[str, str]) -> str:
    """What ``SOURCE`` evaluates: the same for all."""
    if not _SOURCES:
        asked = {**env, "_LAUNCHER_COMPLETE": "bash_source"}
        done = subprocess.run(["launcher"], env=asked, capture_output=True, text=True, check=True)
        _SOURCES.append(done.stdout)
    return _SOURCES[0]


FILES = ["<-o default>"]


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("launcher att", ["attach"]),
        ("launcher attach ca", ["calm-fox-2"]),
        ("launcher show ca", ["calm-fox-2", "calm-owl-1"]),
        ("launcher logs --tail 5 br", ["brave-hen-3"]),
        ("launcher stop ca", ["calm-fox-2"]),
        ("launcher rm ca", ["calm-fox-2", "calm-owl-1"]),
        ("launcher import s", ["skypilot", "slurm"]),
        ("launcher inventory export --to h", ["hostfile"]),
        ("launcher bootstrap --with h", ["horovod"]),
        ("launcher run --workdir da", ["<-o dirnames>"]),
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


#: Names of files that a shell would understand, each with another first letter.
ODD = ["t$(touch PWNED-1).py", "u;touch PWNED-2;.py", "v`touch PWNED-3`.py", "w x.py", "x'y.py",
       'y"z.py', "z\\a.py", "a&touch PWNED-4&.py", "b|touch PWNED-5|.py", "c>PWNED-6.py", "d*.py",
       "e{a,b}.py", "f!!.py", "g#h.py", "h\\$(touch PWNED-7).yaml", "i(j).py", "k~.py", "é ü.py",
       "~l.py", "--config-from=x.py"]  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_file_name_is_one_word_whatever_is_in_it(env: dict[str, str], shell: str) -> None:
    """Tab, then Enter: launcher is called with that name, and nothing else happens."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    work = Path(env["PWD"])
    for file in work.iterdir():
        file.unlink() if file.is_file() else shutil.rmtree(file)
    for name in [*ODD, "j\nPWNED.py", "j\x1b[31m.py"]:
        (work / name).touch()
    calls = work.parent / "calls"
    program = work.parent / "bin" / "launcher"
    program.write_text(  # a call that is no completion is only noted
        f"#!{sys.executable}\nimport json, os, sys\nif '_LAUNCHER_COMPLETE' in os.environ:\n"
        "    from launcher.cli import main\n    main()\n"
        f"with open({str(calls)!r}, 'a') as file:\n    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    with Typing(env, shell) as typed:
        for count, name in enumerate(ODD, 1):
            first = f"./{name[0]}" if name[0] in "~-" else name[0]
            typed.keys(f"launcher run {first}\t\r")
            typed.until(partial(_has_lines, calls, count), name)
    said = [json.loads(line) for line in calls.read_text().splitlines()]
    names = [f"./{name}" if name[0] in "~-" else name for name in ODD]
    assert said == [["run", name] for name in names]
    assert not [file.name for file in work.iterdir() if file.name.startswith("PWNED")]


def _has_lines(file: Path, count: int) -> bool:
    return file.exists() and file.read_text().count("\n") >= count


#: How each shell is started, and how it learns our completion.
START = {
    "bash": (["--norc", "-i"], 'eval "$(_LAUNCHER_COMPLETE=bash_source launcher)"'),
    "zsh": (["-f", "-i"], "unsetopt beep zle_bracketed_paste; autoload -U compinit; compinit -D; "
            'eval "$(_LAUNCHER_COMPLETE=zsh_source launcher)"'),
    "fish": (["--no-config", "-i"], "_LAUNCHER_COMPLETE=fish_source launcher | source"),
}  # fmt: skip


class Typing:
    """A shell with our completion at a terminal of its own."""

    def __init__(self, env: dict[str, str], shell: str) -> None:
        self._said = ""
        words, source = START[shell]
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(env["PWD"])
            path = str(shutil.which(shell))
            os.execve(
                path, [shell, *words], {**env, "PS1": "$ ", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
            )
        self.keys(f"{source}; echo rea''dy\r")
        self.until(lambda: "ready" in self._said, "the shell is ready")

    def __enter__(self) -> Typing:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def keys(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"not seen: {what}, but {self._said!r}"
            if select.select([self._terminal], [], [], 0.05)[0]:
                self._said += os.read(self._terminal, 4096).decode("utf-8", "replace")


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
    said, deadline = "", time.monotonic() + 120
    while text not in said:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([terminal], [], [], left)[0]:
            break
        said += os.read(terminal, 4096).decode()
    return said
