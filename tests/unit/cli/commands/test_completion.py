"""``launcher completion install``: what is written, and that a shell reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli.commands.completion import MARK, add_line, place_of
from support import ROOT
from support.command import Launcher


def test_each_shell_has_its_place(tmp_path: Path) -> None:
    fish = place_of("fish", {"XDG_CONFIG_HOME": "/c"}, tmp_path)
    assert (str(fish.script), fish.startup) == ("/c/fish/completions/launcher.fish", None)
    bash = place_of("bash", {}, tmp_path)
    assert bash.script == tmp_path / ".local/share/launcher/completion.bash"
    assert bash.startup == tmp_path / ".bashrc"
    assert place_of("zsh", {"ZDOTDIR": "/z"}, tmp_path).startup == Path("/z/.zshrc")


def test_a_startup_file_gets_one_line_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / ".bashrc"
    assert add_line(file, f"first {MARK}")
    file.write_bytes(b"export A=\xff\n" + file.read_bytes() + b"alias x=y")
    assert not add_line(file, f"second {MARK}")
    after = b"export A=\xff\n" + f"second {MARK}\nalias x=y".encode()
    assert file.read_bytes() == after


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_a_new_bash_completes(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "launcher"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom launcher.cli import main\nmain()\n")
    program.chmod(0o755)
    home = tmp_path / "a home"
    home.mkdir()
    user = Launcher(tmp_path / "x", tmp_path, tmp_path / "h")
    user.env.update(HOME=str(home), SHELL="/bin/bash", XDG_DATA_HOME="")
    for added in ("added a line to", ""):
        done = user.call("completion", "install")
        assert done.returncode == 0, done.stderr
        assert ("added a line" in done.stdout) == bool(added)
    rc = (home / ".bashrc").read_text()
    assert rc.count(MARK) == 1
    asked = subprocess.run(
        ["bash", "--norc", "-c", f". '{home}/.bashrc'; complete -p launcher"],
        env={
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_launcher_completion" in asked.stdout
    refused = user.call("completion", "install", "tcsh")
    assert (refused.returncode, 'no completion for "tcsh"' in refused.stderr) == (2, True)
