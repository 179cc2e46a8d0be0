"""Disks that fill up, on a host and here: a clear error, nothing corrupted, and the run goes on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, wait_for
from support.hosts import SPECS

SMALL_HOME = (SPECS[0], labs.HostSpec("lab2", home_size="6M"))

#: Runs a command with a small disk of its own at $LAUNCHER_HOME, which others reach through /proc.
SMALL_HERE = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mkdir -p "$LAUNCHER_HOME" && mount -t tmpfs -o size=600k none "$LAUNCHER_HOME" && exec "$@"',
    "sh",
)


def _fill(host: labs.LabHost, name: str = "/root/ballast") -> None:
    host.run("sh", "-c", f"cat /dev/zero >{name} 2>/dev/null; true")


@pytest.mark.parametrize("own", [SMALL_HOME], indirect=True)
@pytest.mark.parametrize("when", ["before the agent", "while copying"])
def test_a_full_disk_of_a_host_is_named(own: labs.Lab, launcher: Launcher, when: str) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    if when == "while copying":
        # More than pipes and windows hold: rsync is writing when the far side ends.
        (launcher.work / "data.bin").write_bytes(os.urandom(40_000_000))
    else:
        _fill(own.hosts["lab2"])
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "true")
    assert ran.code == 125
    assert ran.receipt["reason"] == "disk-full", ran.err
    assert "lab2: no space left" in ran.err
    assert "workdir:" in ran.err
    assert "Traceback" not in ran.err
    assert "callback" not in ran.err
    if when == "while copying":
        assert "data.bin" in ran.err, "the line that tells, not rsync's last one"
    assert not any(p for p in own.hosts["lab1"].processes() if "LAUNCHER_RUN_ID" in p.environ)
    left = own.hosts["lab2"].run("sh", "-c", "ls -A ~/.launcher/host/code/* || true").stdout
    assert b"incoming" not in left, "half a copy is left"


@pytest.mark.parametrize("own", [SMALL_HOME], indirect=True)
def test_a_disk_that_fills_up_under_a_rank(own: labs.Lab, launcher: Launcher) -> None:
    """Its print fails, as it would without us; what it printed before is here, byte for byte."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    name = launcher.script(
        "import os\nif os.environ['RANK'] == '1':\n"
        "    for number in range(10**9):\n        print(number, 'x' * 1000)\n"
        "import time; time.sleep(600)\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", "--grace", "1s", name)
    receipt = ran.receipt
    assert (receipt["status"], receipt["failure"]["host"]) == ("failed", "lab2"), ran.err
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    assert all(host["logs_complete"] for host in receipt["hosts"])
    there = f"/root/.launcher/host/runs/{receipt['run']}/logs/attempt-0/rank-1.out"
    assert own.hosts["lab2"].read(there) == ran.log("rank-1.out")


def test_no_room_here_makes_logs_wait_on_the_host(launcher: Launcher, clean: labs.Lab) -> None:
    """The run goes on; when there is room again, all of them come."""
    name = launcher.script(
        "import pathlib, time\nprint('ready', flush=True)\n"
        "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.02)\n"
        "for number in range(3000):\n    print(number, 'x' * 1000)\n"
        "pathlib.Path('/tmp/printed').touch()\n"
        "while not pathlib.Path('/tmp/end').exists():\n    time.sleep(0.02)\n"
    )
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/go", "/tmp/printed", "/tmp/end")
    process = launcher.start("--framework", "torch", "--ranks", "9", name, within=SMALL_HERE)
    assert process.stderr
    assert process.stdout
    try:
        home = Path(f"/proc/{process.pid}/root{launcher.home}")
        labs.wait_until(lambda: any(home.glob("runs/*/logs/*/rank-0.out")), "a log", 40)
        (log,) = home.glob("runs/*/logs/*/rank-0.out")
        wait_for(log, b"ready", process)
        host.write("/tmp/go", b"")
        labs.wait_until(lambda: host.exists("/tmp/printed"), "a rank that is not held up", 20)
        _read_until(process, b"logs wait on lab1")
        target = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "mount"]
        grow = [*target, "-o", "remount,size=50m", str(launcher.home)]
        subprocess.run(grow, check=True)
        _read_until(process, b"there is room again")
        (run,) = home.glob("runs/*")
        printed = host.read(f"/root/.launcher/host/runs/{run.name}/logs/attempt-0/rank-0.out")
        labs.wait_until(lambda: log.read_bytes() == printed, "all of the log", 20)
        host.write("/tmp/end", b"")
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, rest
        assert b"complete" in rest
    finally:
        process.kill()
        process.communicate()


def _read_until(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Reads what the user sees until these words come; a pipe that ends before is a failure."""
    assert process.stderr
    seen = b""
    for line in process.stderr:
        seen += line
        if words in line:
            return
    raise AssertionError(seen.decode())


def test_no_room_here_at_the_end_says_where_the_logs_are(
    launcher: Launcher, clean: labs.Lab
) -> None:
    name = launcher.script("for number in range(3000):\n    print(number, 'x' * 1000)\n")
    ran = launcher.run("--framework", "torch", name, within=SMALL_HERE)
    assert ran.code == 74, "the outputs could not be brought, either"
    assert "logs wait on lab1; the run continues" in ran.err
    assert "logs     of lab1 are complete only there, not here: cannot write" in ran.err
    assert "succeeded" in ran.err


def test_no_room_here_from_the_beginning(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script("print('x')\n")
    within = [*SMALL_HERE]
    within[4] = within[4].replace("exec", 'cat /dev/zero >"$LAUNCHER_HOME/ballast"; exec')
    ran = launcher.run("--framework", "torch", "train.py", within=within)
    assert ran.code == 125
    assert "error: cannot write" in ran.err
    assert "No space left on device" in ran.err
    assert "LAUNCHER_HOME" in ran.err
