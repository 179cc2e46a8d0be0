"""Ctrl-C while `launcher run -d` hands a run to its background process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import Launcher
from support.lab_spec import wait_until


@pytest.mark.parametrize(
    "words", [("run", "-d", "t.py"), ("reserve", "--gpus", "1", "--for", "1h")]
)
def test_a_run_that_was_never_named_does_not_begin(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Its user saw no name, and would not know that it goes on."""
    work = tmp_path / "work"
    work.mkdir()
    user = Launcher(tmp_path / "lab.yaml", work, tmp_path / "home")
    user.script("pass", "t.py")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        user.inventory.write_text(f"hosts: {{gpu1: {{address: 127.0.0.1, port: {port}}}}}\n")
        argv = [sys.executable, "-m", "launcher", words[0], "-i", str(user.inventory), *words[1:]]
        with subprocess.Popen(
            argv, cwd=work, env=user.environment(), stderr=subprocess.PIPE
        ) as starting:
            wait_until(lambda: list(user.home.glob("runs/*/follower.log")), "a follower")
            starting.send_signal(signal.SIGINT)
            assert starting.wait(60) == 130
        wait_until(lambda: list(user.home.glob("runs/*/receipt.json")), "a receipt")
    (receipt,) = user.home.glob("runs/*/receipt.json")
    ended = json.loads(receipt.read_text())
    assert (ended["status"], ended["reason"]) == ("stopped", "by-user")
