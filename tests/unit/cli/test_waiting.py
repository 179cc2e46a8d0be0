"""Options about a run's turn, and what is said to wrong ones before any host is asked."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from support.command import Launcher
from support.terminal import Terminal


@pytest.fixture
def typed(tmp_path: Path) -> Launcher:
    """A user with a script, and a host that does not exist."""
    work = tmp_path / "work"
    work.mkdir()
    inventory = tmp_path / "lab.yaml"
    inventory.write_text("hosts:\n  gpu1: {address: 192.0.2.1}\n")
    one = Launcher(inventory, work, tmp_path / "home")
    one.script("pass", "t.py")
    return one


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("--time -1h", "--time: ", ""),
        ("--time 0", "--time 0: must be more than 0", "leave it out for never"),
        ("--wait soon", "--wait: ", ""),
        ("--wait 1h --no-wait", "--wait and --no-wait contradict", "leave one of them out"),
        ("--wait forever --gpus 0", "--wait: --gpus 0 wants no GPUs", "leave --wait out"),
        ("--priority urgent", "'--priority'", ""),
    ],
)
def test_wrong_options(typed: Launcher, words: str, error: str, hint: str) -> None:
    done = typed.run(*words.split(), "t.py")
    assert done.code == 2, done.err
    assert error in done.err
    assert hint in done.err
    assert not (typed.home / "runs").exists(), "nothing was begun"


def test_only_a_waiting_run_is_moved(typed: Launcher) -> None:
    done = typed.call("queue", "move", "x")
    assert (done.returncode, "--first, or --priority low" in done.stderr) == (2, True)
    done = typed.call("queue", "move", "x", "--first")
    assert (done.returncode, "there are no runs here" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    "words",
    ["queue", "gpus", "warm", "ls --all-users", "df", "top --once", "image ls", "project ls"],
)
def test_a_user_is_told_what_is_waited_for(typed: Launcher, words: str) -> None:
    """A host that is off takes 8 seconds, in which a screen without a word looks like a hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        typed.inventory.write_text(
            f"hosts:\n  gpu1: {{address: 127.0.0.1, port: {port}}}\n"
            "projects:\n  team: {quota: 1, users: [ann]}\n"
        )
        env = {**typed.environment(), "TERM": "xterm", "LAUNCHER_INVENTORY": str(typed.inventory)}
        argv = [sys.executable, "-m", "launcher", *words.split()]
        with Terminal(argv, typed.work, env) as screen:
            screen.expect("waiting for 1 host to answer 2.")
            screen.press("\x03")
            assert screen.end() in (130, -signal.SIGINT)
            assert b"Traceback" not in screen.seen
