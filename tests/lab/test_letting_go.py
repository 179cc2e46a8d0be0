"""Nothing ends a run but its user's own word: signals let go of it, and Ctrl-C asks at a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.records.run_lock import holder
from support import lab as labs
from support.command import Launcher, of_runs
from support.terminal import Terminal

#: Counts until it is told to end; fails once if it is told to, before it counts.
COUNTER = """
import os, pathlib, sys, time
fail, end = pathlib.Path("/tmp/fail"), pathlib.Path("/tmp/end")
print("ready", os.environ["LAUNCHER_ATTEMPT"], flush=True)
while not end.exists():
    if fail.exists():
        fail.unlink()
        sys.exit(9)
    time.sleep(0.02)
"""
LET_GO = 143


@pytest.fixture
def host(clean: labs.Lab) -> Iterator[labs.LabHost]:
    """A host on which runs go on until the test is over."""
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/end", "/tmp/fail")
    yield host
    host.write("/tmp/end", b"")
    labs.wait_until(lambda: not of_runs(host), "the runs to end", 30)


def _words(launcher: Launcher) -> list[str]:
    return ["--hosts", "lab1", "--framework", "torch", "--grace", "2s", launcher.script(COUNTER)]


def _detached(launcher: Launcher, *words: str) -> Path:
    left = launcher.run("--detach", *words, *_words(launcher))
    assert left.code == 0, left.err
    return left.folder


def _follower(folder: Path) -> int:
    """The process that follows a run; 0 if none does."""
    return holder(folder) or 0


def _attach(launcher: Launcher) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "launcher", "attach", "-"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv, env=launcher.environment(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )


def _end(host: labs.LabHost, folder: Path) -> None:
    """The run goes on to its own end."""
    assert of_runs(host), "the run is going on"
    host.write("/tmp/end", b"")
    labs.wait_until(lambda: not of_runs(host), "the run to end", 30)
    assert not (folder / "stop.json").exists(), "nobody asked for its end"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_attach_and_to_the_follower_leaves_the_run(
    launcher: Launcher, host: labs.LabHost, number: signal.Signals
) -> None:
    """As at a shutdown or logout, where every process gets it."""
    folder = _detached(launcher)
    follower = _follower(folder)
    attached = _attach(launcher)
    assert attached.stdout
    assert b"ready 0" in attached.stdout.readline(), "it shows the run"
    os.kill(attached.pid, number)
    _, err = attached.communicate(timeout=120)
    assert attached.returncode == LET_GO, err.decode()
    assert f"detached; {folder.name} keeps running".encode() in err
    assert f"launcher stop {folder.name}".encode() in err
    assert _follower(folder) == follower, "another process follows it"
    os.kill(follower, number)
    labs.wait_until(lambda: _follower(folder) == 0, "the follower to let go", 20)
    labs.wait_until(
        lambda: "keeps running" in (folder / "follower.log").read_text(), "its last word", 20
    )
    attached = _attach(launcher)
    labs.wait_until(lambda: _follower(folder) == attached.pid, "attach to follow the run", 30)
    os.kill(attached.pid, number)
    _, err = attached.communicate(timeout=120)
    assert attached.returncode == LET_GO, err.decode()
    assert f"launcher attach {folder.name}".encode() in err, "nobody follows it now"
    _end(host, folder)
    ended = launcher.call("attach", "-")
    assert ended.returncode == 0, ended.stderr


def test_a_signal_to_a_run_in_the_foreground_leaves_it(
    launcher: Launcher, host: labs.LabHost
) -> None:
    process = launcher.start(*_words(launcher))
    assert process.stdout
    assert b"ready" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == LET_GO, err.decode()
    (folder,) = (launcher.home / "runs").iterdir()
    assert f"detached; {folder.name} keeps running".encode() in err
    _end(host, folder)
    ended = launcher.call("attach", "-")
    assert ended.returncode == 0, ended.stderr


def test_a_signal_before_the_ranks_started_ends_what_nobody_else_could_start(
    launcher: Launcher, host: labs.LabHost
) -> None:
    process = launcher.start(
        "--hosts", "lab1", "--framework", "env", "--setup", "echo begun; sleep 600", "true"
    )
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/setup-0.out")), "setup", 30)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"stopped (by-user)" in err
    assert not of_runs(host)


def test_a_signal_during_a_restart_waits_for_the_ranks(
    launcher: Launcher, host: labs.LabHost
) -> None:
    """Let go at that moment, a run of days would end: nobody starts its ranks then."""
    words = ["--max-restarts", "1", "--setup", "sleep 3"]
    folder = _detached(launcher, *words)
    follower = _follower(folder)
    host.write("/tmp/fail", b"")
    events = folder / "events.jsonl"
    labs.wait_until(lambda: b'"stage":"restart"' in events.read_bytes(), "the restart", 30)
    os.kill(follower, signal.SIGTERM)
    labs.wait_until(lambda: _follower(folder) == 0, "the follower to let go", 60)
    log = folder / "logs/attempt-1/rank-0.out"
    assert of_runs(host), events.read_text()
    _end(host, folder)
    ended = launcher.call("attach", "-")
    assert ended.returncode == 0, ended.stderr
    assert log.read_bytes() == b"ready 1\n"


# -- Ctrl-C at a terminal


def _at_terminal(launcher: Launcher, *words: str) -> Terminal:
    env = {**launcher.environment(), "TERM": "xterm"}
    return Terminal([sys.executable, *words], launcher.work, env, columns=80)


CTRL_C = "\x03"
QUESTION = "d detach, it keeps running"


def test_ctrl_c_in_attach_asks(launcher: Launcher, host: labs.LabHost) -> None:
    """Enter continues; d detaches; s stops, and so does a second Ctrl-C."""
    folder = _detached(launcher)
    follower = _follower(folder)
    with _at_terminal(launcher, "-m", "launcher", "attach", "-") as terminal:
        terminal.expect("ready 0")
        terminal.press(CTRL_C)
        terminal.expect(QUESTION)
        terminal.press("x")
        terminal.press("\r")
        terminal.expect("continues")
        terminal.press(CTRL_C)
        terminal.expect(QUESTION)
        terminal.press("d")
        terminal.expect(f"detached; {folder.name} keeps running")
        assert terminal.end() == 0
    assert of_runs(host)
    assert _follower(folder) == follower
    for stop in ("s", CTRL_C):
        with _at_terminal(launcher, "-m", "launcher", "attach", "-") as terminal:
            terminal.expect("run ")
            terminal.press(CTRL_C)
            terminal.expect(QUESTION)
            terminal.press(stop)
            terminal.expect("stopped (by-user)")
            assert terminal.end() == 130
        assert not of_runs(host)
        if stop == "s":
            launcher.home = launcher.home.with_name("another home")
            _detached(launcher)


#: The command in which a run is old at once, and one in which it stays young.
AGED = "from launcher.cli import follow, main; follow.YOUNG = {}; main()"


@pytest.mark.parametrize("age", ["young", "old"])
def test_ctrl_c_in_a_run_asks_once_it_is_old(
    launcher: Launcher, host: labs.LabHost, age: str
) -> None:
    """A detached run is followed in the background, as one that was started with -d."""
    command = ["-c", AGED.format(0.0 if age == "old" else 1e6)]
    words = ["run", "-i", str(launcher.inventory), "--max-restarts", "1", *_words(launcher)]
    with _at_terminal(launcher, *command, *words) as terminal:
        terminal.expect("ready 0")
        terminal.press(CTRL_C)
        if age == "young":
            terminal.expect("stopped (by-user)")
            assert terminal.end() == 130
            return
        terminal.expect(QUESTION)
        terminal.press("d")
        terminal.expect("keeps running")
        assert terminal.end() == 0
        assert b"launcher attach" not in terminal.seen, "it is followed"
    (folder,) = (launcher.home / "runs").iterdir()
    assert _follower(folder)
    host.write("/tmp/fail", b"")  # the process in the background starts it again
    log = folder / "logs/attempt-1/rank-0.out"
    labs.wait_until(lambda: log.exists() and b"ready 1" in log.read_bytes(), "a restart", 60)
    host.write("/tmp/end", b"")
    labs.wait_until((folder / "receipt.json").exists, "the receipt", 60)
    attached = launcher.call("attach", "-")
    assert (attached.returncode, "ready 0" in attached.stdout) == (0, False), "it was shown"
    assert "ready 1" in attached.stdout
