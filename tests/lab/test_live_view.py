"""`launcher attach --live` at a real terminal."""

from __future__ import annotations

import json
import os
import signal
import sys
import termios

from support import lab as labs
from support.command import Launcher
from support.scripts import MEET
from support.terminal import Terminal

SCRIPT = """
import os, pathlib, sys, time
rank, step = os.environ["RANK"], 0
while not (pathlib.Path(os.environ["LAUNCHER_RUN_DIR"]) / "end").exists():
    step += 1
    print(f"step {step} loss={1 / step}  \\033[31mred\\033[0m \\033[2J\\x07", flush=True)
    time.sleep(0.05)
sys.exit(3)
"""


def test_it_shows_leaves_and_ends_as_the_run_does(launcher: Launcher, clean: labs.Lab) -> None:
    name = launcher.script(MEET + SCRIPT)
    words = ("--nodes", "2", "--framework", "torch", "--detach", name)
    left = launcher.run(*words)
    assert left.code == 0, left.err
    run = left.folder.name
    argv = [sys.executable, "-m", "launcher", "attach", "--live", run]
    env = {**launcher.environment(), "TERM": "xterm", "COLUMNS": "70"}
    with Terminal(argv, launcher.work, env, columns=80) as screen:
        screen.expect(run)
        screen.expect("running")
        screen.expect("lab1")
        screen.expect("1 running")
        screen.expect("loss")
        screen.expect("[0-1] ")
        screen.expect("red")
        screen.expect("processors")
        screen.expect(" % ")
        assert max(map(len, _texts(screen.seen))) <= 80
        termios.tcsetwinsize(screen.fd, (12, 200))
        os.kill(screen.pid, signal.SIGWINCH)
        screen.expect("q leaves, the run goes on")
        screen.press("\x1b[A")
        screen.expect("below: space goes on")
        screen.press(" ")
        screen.press("\x03")
        screen.expect("\x1b[?1049l")
        screen.expect("keeps running")
        assert screen.end() == 0
    assert b"\x1b[2J" not in screen.seen.replace(b"\x1b[H\x1b[2J", b""), "of the program"
    assert b"\x07" not in screen.seen
    (listed,) = json.loads(launcher.call("ls", "--json", "--no-refresh").stdout)
    assert listed["status"] == "running"
    with Terminal(argv, launcher.work, {**env, "NO_COLOR": "1"}, columns=80) as screen:
        screen.expect("running")
        termios.tcsetwinsize(screen.fd, (40, 120))
        os.kill(screen.pid, signal.SIGWINCH)
        screen.expect("  step ")
        screen.expect(" ┤")
        for name in ("lab1", "lab2"):
            clean.hosts[name].write(f"/root/.launcher/host/runs/{run}/end", b"")
        screen.expect("failed (exit-3)")
        assert screen.end() == 3
    assert b"\x1b[31m" not in screen.seen and b"\x1b[32m" not in screen.seen
    plain = launcher.call("attach", "--live", run)
    assert plain.returncode == 3
    assert "\x1b" not in plain.stdout + plain.stderr
    refused = launcher.call("attach", "--live", "--raw", run)
    assert refused.returncode == 2


def _texts(seen: bytes) -> list[str]:
    """Return the lines of the pictures without control sequences."""
    import click

    text = seen.decode("utf-8", "replace").replace("\x1b[K", "").replace("\x1b[J", "")
    plain = [click.unstyle(line).replace("\x1b[H", "") for line in text.split("\n")]
    return [line.rstrip("\r") for line in plain][1:-1]
