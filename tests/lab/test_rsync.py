"""The process that copies: nothing of it is left, however it is broken off, and it can be slow."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher


def _found(*words: str) -> list[int]:
    """Processes of this machine, as pgrep finds them."""
    found = subprocess.run(["pgrep", *words], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


#: What the screen says when rsync is killed in the middle, here and there.
KILLED = {"here": "rsync here was killed by SIGKILL", "there": "the copy was interrupted: "}


@pytest.mark.parametrize("where", KILLED)
def test_an_rsync_that_is_killed_is_one_error(
    launcher: Launcher, clean: labs.Lab, where: str
) -> None:
    """In the middle of a copy: the run ends at once, and the screen has our error only."""
    host = clean.hosts["lab2"]
    (launcher.work / "data.bin").write_bytes(os.urandom(30_000_000))
    there = host.path("/root/.launcher/host/code")
    host.slow(8)  # 30 s for the file
    process = launcher.start("--hosts", "lab2", "--framework", "env", "--", "true")
    try:
        labs.wait_until(lambda: any(there.glob("*/incoming-*/.data.bin.*")), "a part of it there")
        if where == "here":
            os.kill(_found("--parent", str(process.pid), "rsync")[0], signal.SIGKILL)
        else:
            host.run("sh", "-c", "kill -9 $(pgrep -x rsync)")
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        host.slow(0)
    told = [line for line in said.decode().splitlines() if line.startswith("error: ")]
    assert process.returncode == 125, said
    assert told[0].startswith(f"error: lab2: {KILLED[where]}"), told
    assert len(told) == 1
    for noise in (b"Traceback", b"callback", b"pipe closed", b"cat: "):
        assert noise not in said, said.decode()


def test_what_a_killed_rsync_has_begun_is_no_output(launcher: Launcher, clean: labs.Lab) -> None:
    """As when a run ends while its outputs are coming: the half that was here stood among them."""
    name = launcher.script(
        "import os\nopen(os.environ['LAUNCHER_OUTPUT_DIR'] + '/big', 'wb').write(os.urandom(30_000_000))\n"
    )
    host = clean.hosts["lab2"]
    host.slow(8)  # 30 s for the file
    process = launcher.start("--hosts", "lab2", "--framework", "torch", name)
    try:
        labs.wait_until(
            lambda: any(
                f.stat().st_size for f in launcher.home.glob("runs/*/.hosts/*/incoming/big.*")
            ),
            "a part of it here",
        )
        for pid in _with_children(_found("--parent", str(process.pid), "rsync")[0]):
            os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=40)
    finally:
        process.kill()
        host.slow(0)
    assert process.returncode == 74, said
    assert [path.name for path in launcher.home.glob("runs/*/outputs/*")] == []
    assert launcher.call("pull", "-").returncode == 0
    assert [path.name for path in launcher.home.glob("runs/*/outputs/*")] == ["big"]


def _with_children(pid: int) -> list[int]:
    return [pid, *_found("--parent", str(pid), "rsync")]


def test_an_rsync_that_is_slow_here_gets_all(launcher: Launcher, clean: labs.Lab) -> None:
    """A disk that takes a while: what is copied here waits, also when it has filled all that holds it."""
    name = launcher.script(
        "import os\nopen(os.environ['LAUNCHER_OUTPUT_DIR'] + '/big', 'wb').write(os.urandom(30_000_000))\n"
    )
    host = clean.hosts["lab2"]
    host.slow(8)  # 30 s for the file
    process = launcher.start("--hosts", "lab2", "--framework", "torch", name)
    copies: list[int] = []
    try:
        labs.wait_until(
            lambda: any(
                f.stat().st_size for f in launcher.home.glob("runs/*/.hosts/*/incoming/big.*")
            ),
            "a part of it here",
        )
        (main,) = _found("--parent", str(process.pid), "rsync")
        copies = [main, *_found("--parent", str(main), "rsync")]
        (bridge,) = _found("--parent", str(main), "cat")
        for pid in copies:
            os.kill(pid, signal.SIGSTOP)
        labs.wait_until(lambda: _waits_to_write(bridge), "a bridge without room")
        host.slow(0)
        for pid in copies:
            os.kill(pid, signal.SIGCONT)
        _, said = process.communicate(timeout=40)
    finally:
        process.kill()
        host.slow(0)
    assert process.returncode == 0, said
    assert b"not complete" not in said, said.decode()
    (big,) = launcher.home.glob("runs/*/outputs/big")
    assert big.stat().st_size == 30_000_000


def _waits_to_write(pid: int) -> bool:
    """To a socket that is full; or it has given up."""
    try:
        waits = Path(f"/proc/{pid}/wchan").read_text()
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
    return ended or waits == "sock_alloc_send_pskb"
