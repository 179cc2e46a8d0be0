"""One line for every login shell: real shells, and texts that break quotes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.spec.model import Host
from launcher.transport import agent_bundle, login_shell

SHELLS = {
    "bash": ["bash"],
    "dash": ["dash"],
    "zsh": ["zsh"],
    "fish": ["fish"],
    "tcsh": ["tcsh"],
    "ash": ["busybox", "ash"],
}
TEXT = "it's \"a\" $HOME !! !x \\ \\\\ \\' %s %% `id`\n\ttab # ~ {a,b} * é \udcff\n\nend"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    words = SHELLS[request.param]
    if shutil.which(words[0]) is None:
        pytest.skip(f"there is no {words[0]} on this machine")
    return words


def output(shell: list[str], line: str, home: Path, **env: str) -> bytes:
    done = subprocess.run(
        [*shell, "-c", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], **env},
    )
    return done.stdout + done.stderr


def test_a_script_arrives_as_it_is(shell: list[str], tmp_path: Path) -> None:
    script = login_shell.words("printf '%s.' \"$@\"\n# it's\nprintf '!\\n'", TEXT, "", "b c")
    line = login_shell.line(script)
    assert "\n" not in line
    assert output(shell, line, tmp_path) == os.fsencode(f"{TEXT}..b c.!\n")


def test_the_agent_starts_there(shell: list[str], tmp_path: Path) -> None:
    workdir = tmp_path / "it's a!folder"
    host = Host("far", workdir=str(workdir), python=sys.executable)
    answer = output(shell, agent_bundle.start_command(host), tmp_path)
    assert answer.startswith(f"\n{login_shell.MARKER}\nlauncher-no-agent".encode())


def test_a_marker_comes_first(shell: list[str], tmp_path: Path) -> None:
    line = login_shell.marked("echo 'a b'")
    assert output(shell, line, tmp_path) == f"\n{login_shell.MARKER}\na b\n".encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~/x y", "/home/me/x y"),
        ("~root/x", "/root/x"),
        ("$SCRATCH/launcher", "/scratch/it's $a b/launcher"),
        ("/a/${SCRATCH}b$SCRATCH", "/a//scratch/it's $a bb/scratch/it's $a b"),
        ("/a~b/$1/`id`", "/a~b/$1/`id`"),
        ("~", "/home/me"),
    ],
)
def test_paths_as_people_write_them(text: str, expected: str) -> None:
    line = login_shell.line(f'd={login_shell.path(text)}\nprintf %s "$d"')
    env = {"SCRATCH": "/scratch/it's $a b"}
    assert output(["sh"], line, Path("/home/me"), **env).decode() == expected


@pytest.mark.parametrize(
    ("workdir", "answer"),
    [("$NONE/x", "launcher-no-variable NONE"), ("~no-such-user/x", "launcher-no-user")],
)
def test_a_path_that_leads_nowhere_is_named(workdir: str, answer: str, tmp_path: Path) -> None:
    host = Host("far", workdir=workdir, python=sys.executable)
    found = output(["sh"], agent_bundle.start_command(host), tmp_path).decode()
    assert found.startswith(answer)
    assert not list(tmp_path.iterdir())
