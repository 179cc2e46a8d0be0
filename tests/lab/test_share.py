"""Shared folders: what one host writes is on all hosts of the run, whole and in order."""

from __future__ import annotations

import pytest

from support import lab as labs
from support.command import Launcher
from support.hosts import SPECS

# Every host runs it. Each step ends when all hosts have seen its end.
STEPS = r"""
import os, pathlib, time

me, folder = int(os.environ["NODE_RANK"]), pathlib.Path("checkpoints")

def until(holds, what):
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)

def step(name):
    (folder / f"{name}-{me}").touch()
    until(lambda: all((folder / f"{name}-{n}").exists() for n in range(3)), name)

assert folder.is_dir(), "it is there from the start"
step("start")

# A file that takes a while is never seen in part.
big = folder / "deep" / "epoch=1 it's.ckpt"
if me == 1:
    big.parent.mkdir()
    with big.open("wb") as file:
        for part in range(4):
            file.write(bytes([part]) * 500_000)
            file.flush()
            time.sleep(0.6)
    (folder / "last.ckpt").symlink_to("deep/epoch=1 it's.ckpt")
    time_of_one = big.stat().st_mtime_ns
    (folder / "time").write_text(str(time_of_one))
while not (folder / "last.ckpt").exists():
    assert me == 1 or not big.exists() or big.stat().st_size == 2_000_000
    time.sleep(0.02)
assert (folder / "last.ckpt").read_bytes() == b"".join(bytes([p]) * 500_000 for p in range(4))
until((folder / "time").exists, "its time")
assert str(big.stat().st_mtime_ns) == (folder / "time").read_text()
step("whole")

# In the order in which they were written.
if me == 0:
    for number in range(300):
        (folder / f"small-{number:03}").write_text(str(number))
until((folder / "small-299").exists, "the last one")
assert [(folder / f"small-{n:03}").read_text() for n in range(300)] == [str(n) for n in range(300)]
step("order")

# What is rewritten, renamed and removed is so everywhere.
if me == 2:
    (folder / "small-000").write_text("other")
    (folder / "small-001").rename(folder / "renamed")
    (folder / "small-002").unlink()
until(lambda: (folder / "small-000").read_text() == "other", "rewritten")
until(lambda: (folder / "renamed").exists() and not (folder / "small-001").exists(), "renamed")
until(lambda: not (folder / "small-002").exists(), "removed")
step("changed")

# A file of one name that all write at once becomes that of one of them.
(folder / "same").write_text(f"of {me}" * (me + 1))
step("conflict")
step("settled")
print("same is", (folder / "same").read_text()[:4])
os.symlink("/etc/hostname", folder / f"outside-{me}")
(folder / f"after-{me}").touch()
until(lambda: all((folder / f"after-{n}").exists() for n in range(3)), "after")
assert [p.name for p in folder.glob("outside-*")] == [f"outside-{me}"]
"""


def test_hosts_share_a_folder(launcher: Launcher, clean: labs.Lab) -> None:
    flags = ["--nodes", "3", "--framework", "env", "--share", "checkpoints/"]
    ran = launcher.run(*flags, f"python {launcher.script(STEPS)}", timeout=180)
    assert ran.code == 0, ran.out + ran.err
    said = [ran.log(f"node-{n}.out").decode().strip() for n in range(3)]
    assert len(set(said)) == 1, said
    outputs = ran.folder / "outputs" / "checkpoints"
    assert (outputs / "last.ckpt").resolve().stat().st_size == 2_000_000
    assert (outputs / "small-000").read_text() == "other"
    found = [path.name for path in outputs.iterdir() if "@" in path.name]
    assert not found, "each file comes once, from the host that wrote it"
    mirror = ran.folder / ".hosts" / "lab1" / "outputs" / "checkpoints"
    assert not (mirror / "deep").exists(), "what others wrote does not travel twice"
    assert "not brought back" not in ran.err


WRITER = r"""
import os, pathlib, time
folder, me = pathlib.Path("checkpoints"), os.environ["NODE_RANK"]

def until(holds, what):
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
"""


@pytest.mark.parametrize("own", [(SPECS[0], labs.HostSpec("lab2", home_size="8M"))], indirect=True)
def test_a_full_disk_and_a_cable_that_is_pulled(own: labs.Lab, launcher: Launcher) -> None:
    """Both are told or waited for, and what was written meanwhile arrives when they are over."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    script = launcher.script(
        WRITER
        + """
if me == "0":
    until((folder / "full").exists, "a full disk")
    (folder / "big").write_bytes(b"x" * 2_000_000)
    until((folder / "fits").exists, "room")
    print("unplug", flush=True)
    until(pathlib.Path("/tmp/unplugged").exists, "the test")
    for number in range(50):
        (folder / f"file-{number}").write_text("x" * 1000)
    pathlib.Path("/tmp/written").touch()
if me == "1":
    ballast = pathlib.Path.home() / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, b"x" * 4096)
    except OSError:
        os.ftruncate(file, max(0, os.fstat(file).st_size - 200_000))
    (folder / "full").touch()
    until(pathlib.Path("/tmp/told").exists, "word that there is no room")
    assert not (folder / "big").exists()
    os.close(file)
    ballast.unlink()
    until((folder / "big").exists, "a file that fits now")
    assert (folder / "big").stat().st_size == 2_000_000
    (folder / "fits").touch()
    until((folder / "file-49").exists, "the last file")
    assert all((folder / f"file-{n}").stat().st_size == 1000 for n in range(50))
"""
    )
    flags = ["--nodes", "2", "--framework", "env", "--share", "checkpoints"]
    process = launcher.start(*flags, f"python {script}")
    assert process.stdout
    assert process.stderr
    records = "runs/*/events.jsonl"
    try:
        labs.wait_until(
            lambda: (
                process.poll() is not None
                or any(b"ShareTroubled" in f.read_bytes() for f in launcher.home.glob(records))
            ),
            "a full disk",
            60,
        )
        own.hosts["lab2"].write("/tmp/told", b"")
        for line in process.stdout:
            if b"unplug" in line:
                break
        else:
            raise AssertionError(process.stderr.read().decode())
        own.hosts["lab2"].unplug()
        own.hosts["lab1"].write("/tmp/unplugged", b"")
        labs.wait_until(lambda: own.hosts["lab1"].exists("/tmp/written"), "files", 40)
        own.hosts["lab2"].plug()
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
        assert b"lab2: no room for checkpoints/big from lab1" in said, said.decode()
    finally:
        process.kill()
        process.communicate()


def test_what_a_lost_host_has_shared_comes_from_the_others(
    own: labs.Lab, launcher: Launcher
) -> None:
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    script = launcher.script(
        WRITER
        + """
if me == "0":
    (folder / "epoch=1.ckpt").write_text("weights")
until((folder / "epoch=1.ckpt").exists, "it")
print("seen by", me, flush=True)
time.sleep(600)
"""
    )
    flags = ["--nodes", "2", "--framework", "env", "--share", "checkpoints", "--pull-every", "1h"]
    process = launcher.start(*flags, "--lost-after", "1s", "--grace", "1s", f"python {script}")
    assert process.stdout
    try:
        for line in process.stdout:
            if b"seen by 1" in line:
                break
        own.hosts["lab1"].power_cut()
        _, said = process.communicate(timeout=120)
        (folder,) = (launcher.home / "runs").iterdir()
        found = folder / "outputs" / "checkpoints" / "epoch=1.ckpt"
        assert found.read_text() == "weights", said.decode()
    finally:
        process.kill()
        process.communicate()
