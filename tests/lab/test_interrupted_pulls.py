"""A pull that is interrupted, in any way, continues where it was."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from lab.test_budget import HOST_ROOT
from support import lab as labs
from support.command import Launcher

SIZE = 40_000_000
SCRIPT = f'head -c {SIZE} /dev/urandom >"$LAUNCHER_OUTPUT_DIR/weights"'
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}


@pytest.mark.parametrize("how", [*SIGNALS, "the connection"])
def test_a_large_file_is_not_sent_again(launcher: Launcher, clean: labs.Lab, how: str) -> None:
    host, dest = clean.hosts["lab1"], launcher.work / "dest"
    words = ("--hosts", "lab1", "--framework", "env", "--keep-on-host", "*")
    ran = launcher.run(*words, "--", "sh", "-c", SCRIPT)
    assert ran.code == 0, ran.err
    pull = ("pull", ran.folder.name, str(dest), "--only", "*")

    process = launcher.start_command(*pull, "--max-rate", "8MB/s")
    labs.wait_until(lambda: _largest(dest) > SIZE // 2, "half of it", 60)
    if how in SIGNALS:
        os.kill(process.pid, SIGNALS[how])
    else:
        host.kill_sshd_sessions()
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == "Ctrl-C":
        line = f"interrupted; the next pull continues here: launcher {shlex.join(pull)} --max-rate 8MB/s\n"
        assert said.decode().endswith(line)
    labs.wait_until(lambda: not _copies_to(dest), "the end of its rsync", 20)

    before = _sent(host)
    again = launcher.call(*pull)
    assert again.returncode == 0, again.stderr
    assert _sent(host) - before < 0.6 * SIZE
    there = host.read(f"{HOST_ROOT}/runs/{ran.folder.name}/outputs/weights")
    here = (dest / "outputs" / "weights").read_bytes()
    assert hashlib.sha256(here).digest() == hashlib.sha256(there).digest()
    assert [path.name for path in (dest / "outputs").rglob("*")] == ["weights"]


def test_two_pulls_into_one_folder_leave_each_other_alone(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The second one removed what was coming for the first."""
    dest = launcher.work / "dest"
    words = ("--hosts", "lab1", "--framework", "env", "--keep-on-host", "*")
    ran = launcher.run(*words, "--", "sh", "-c", SCRIPT)
    pull = ("pull", "-", str(dest), "--only", "*")
    first = launcher.start_command(*pull, "--max-rate", "8MB/s")
    labs.wait_until(lambda: _largest(dest) > 0, "a part of it", 60)
    os.kill(first.pid, signal.SIGSTOP)  # it is not to end meanwhile
    try:
        second = launcher.call(*pull)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 2, second.stderr
    assert f"DEST cannot be {dest}: another launcher brings files to it" in second.stderr
    _, said = first.communicate(timeout=60)
    assert first.returncode == 0, said.decode()
    assert (dest / "outputs" / "weights").stat().st_size == SIZE
    assert launcher.call(*pull).returncode == 0, "nobody brings anything any more"
    assert ran.code == 0


def _largest(folder: Path) -> int:
    """Return the size of the largest file that has begun to come."""
    sizes = [0]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes.append(path.lstat().st_size)
    return max(sizes)


def _sent(host: labs.LabHost) -> int:
    """Return how many bytes a host has sent."""
    text = host.run("cat", "/proc/net/dev").stdout.decode()
    return int(text.partition("eth0:")[2].split()[8])


def _copies_to(dest: Path) -> list[int]:
    """Return the processes here that copy into a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"rsync" and any(os.fsencode(dest) in word for word in words):
                found.append(int(process.name))
    return found
