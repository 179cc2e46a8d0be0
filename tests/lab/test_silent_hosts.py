"""A host on which nothing answers though its connection stands, as on a disk that hangs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from support import lab as labs
from support.command import Launcher, of_runs, wait_for

#: As a user calls it, but for less patience.
HURRIED = """
import launcher.runner.files.collector, launcher.runner.shutdown, launcher.runner.session.keep_alive, launcher.transport.agent_client, launcher.transport.rsync
launcher.transport.rsync.SILENCE = 2
launcher.transport.agent_client.ANSWERS, launcher.runner.session.keep_alive.PAUSE = {answers}, 0.2
launcher.runner.shutdown.AFTER_GRACE, launcher.runner.files.collector.LAST_TRY = 6.0, {last_try}
from launcher.cli import main
main()
"""
WAITS = """
import pathlib, time
print("ready", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.05)
print("done", flush=True)
"""


@contextlib.contextmanager
def hurried(
    launcher: Launcher, answers: float, last_try: float, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command, with so many seconds for an agent to answer, and for that of a lost host."""
    with subprocess.Popen(
        [sys.executable, "-c", HURRIED.format(answers=answers, last_try=last_try), *words],
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def silent(
    own: labs.Lab,
    launcher: Launcher,
    answers: float,
    last_try: float = 3,
    which: Callable[[list[int]], int] = min,
    lost_after: str = "300s",
) -> Iterator[subprocess.Popen[bytes]]:
    """A run of which a process on lab2 stands still: the relay, or its fork, the supervisor."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    flags = ["-i", str(launcher.inventory), "--nodes", "2", "--framework", "torch", "--grace", "1s"]
    flags += ["--lost-after", lost_after]
    with hurried(launcher, answers, last_try, "run", *flags, launcher.script(WAITS)) as process:
        labs.wait_until(lambda: list(_logs(launcher)), "the log of lab2")
        wait_for(next(_logs(launcher)), b"ready", process)
        far = own.hosts["lab2"]
        both = [p.pid for p in far.processes() if "relay" in p.argv]
        far.run("kill", "-STOP", str(which(both)))
        yield process


def test_it_is_asked_anew_over_another_connection(own: labs.Lab, launcher: Launcher) -> None:
    """And the run goes on, and nothing of it is missing."""
    with silent(own, launcher, answers=3) as running:
        (record,) = launcher.home.glob("runs/*/events.jsonl")
        wait_for(record, b'"ConnectionResumed"', running)
        for host in own.hosts.values():
            host.write("/tmp/go", b"")
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err.decode()
    assert b"lab2: the agent did not answer within " in err
    assert b"exception" not in err
    assert b"lab2: back after" in err
    assert next(_logs(launcher)).read_bytes() == b"ready\ndone\n"
    receipt = json.loads((record.parent / "receipt.json").read_bytes())
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]


def test_ctrl_c_does_not_wait_for_it(own: labs.Lab, launcher: Launcher) -> None:
    """Nor does the collecting of outputs; and the receipt says what is not known."""
    with silent(own, launcher, answers=60) as running:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=40)
    assert running.returncode == 125, err.decode()
    assert b"lost (supervisor-silent)" in err
    assert b"outputs  of lab2 are not complete: the agent did not answer within 3 s" in err
    assert b"is a disk or a network file system hanging on the host?" in err
    (file,) = launcher.home.glob("runs/*/receipt.json")
    assert [host["left"] for host in json.loads(file.read_bytes())["hosts"]] == [0, None]


def test_a_supervisor_that_stands_still_is_ended_with_all_that_it_owns(
    own: labs.Lab, launcher: Launcher
) -> None:
    """Its relay still answers: nothing is left, and what there is comes back."""
    with silent(own, launcher, answers=60, last_try=20, which=max) as running:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 125, err.decode()
    assert b"lost (supervisor-silent)" in err
    assert b"not complete" not in err
    (file,) = launcher.home.glob("runs/*/receipt.json")
    assert [host["left"] for host in json.loads(file.read_bytes())["hosts"]] == [0, 0]
    assert not of_runs(own.hosts["lab2"])


def test_a_copy_that_does_not_move_is_given_up(own: labs.Lab, launcher: Launcher) -> None:
    (launcher.work / "data.bin").write_bytes(os.urandom(30_000_000))
    far = own.hosts["lab2"]
    far.slow(8)  # 30 s for the file
    flags = ["-i", str(launcher.inventory), "--hosts", "lab2", "--framework", "env"]
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    with hurried(launcher, 60, 3, "run", *flags, "true") as running:
        there = far.path("/root/.launcher/host/code")
        labs.wait_until(lambda: any(there.glob("*/incoming-*/.data.bin.*")), "a part of it there")
        far.run("sh", "-c", "kill -STOP $(pgrep -x rsync)")
        _, err = running.communicate(timeout=40)
    assert running.returncode == 125
    assert b"error: lab2: the copy was interrupted: " in err, err.decode()
    assert b"io timeout after 2 seconds" in err
    assert b"is a disk or a network file system hanging on the host?" in err


def _logs(launcher: Launcher) -> Iterator[Path]:
    return launcher.home.glob("runs/*/logs/attempt-0/rank-1.out")


def test_a_supervisor_that_stands_still_ends_the_run_in_bounded_time(
    own: labs.Lab, launcher: Launcher
) -> None:
    """Nobody presses Ctrl-C: it is given up as a host that cannot be reached for as long."""
    with silent(own, launcher, answers=60, last_try=20, which=max, lost_after="3s") as running:
        _, err = running.communicate(timeout=60)
    assert running.returncode == 125, err.decode()
    assert b"lab2: lost (supervisor-silent)" in err
    (file,) = launcher.home.glob("runs/*/receipt.json")
    assert [host["left"] for host in json.loads(file.read_bytes())["hosts"]] == [0, 0]
    assert not of_runs(own.hosts["lab2"])
    assert not [p for p in own.hosts["lab2"].processes() if "relay" in p.argv]
