"""Shared folders: what one host writes is on all hosts of the run, whole and in order."""

from __future__ import annotations

from support import lab as labs
from support.command import Launcher

# Every host runs it. Each step ends when all hosts have seen its end.
STEPS = r"""
import os, pathlib, time

me, folder = int(os.environ["NODE_RANK"]), pathlib.Path("checkpoints")

def until(holds, what):
    deadline = time.monotonic() + 60
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
time.sleep(3)
step("conflict")
time.sleep(2)
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
    assert "checkpoints/same: several hosts wrote it at once; all have that of lab" in ran.err
    outputs = ran.folder / "outputs" / "checkpoints"
    assert (outputs / "last.ckpt").resolve().stat().st_size == 2_000_000
    assert (outputs / "small-000").read_text() == "other"
    found = [path.name for path in outputs.iterdir() if "@" in path.name]
    assert not found, "each file comes once, from the host that wrote it"
    mirror = ran.folder / ".hosts" / "lab1" / "outputs" / "checkpoints"
    assert not (mirror / "deep").exists(), "what others wrote does not travel twice"
    assert "not brought back" not in ran.err
