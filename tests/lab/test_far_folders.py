"""Folders that all hosts have, on file systems that may not answer."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from support import hung_mount
from support import lab as labs
from support.command import Launcher

FAR = "/srv/far"
WORDS = ("--hosts", "near,far", "--framework", "env", "--data", f"far=file://{FAR}:data/far")
#: Looks at what is there, and goes on once it may.
SCRIPT = """
import os, pathlib, time
assert os.listdir("data/far") == []
pathlib.Path("/tmp/looked").touch()
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.05)
pathlib.Path("latest").symlink_to("data/far/x")
"""
TWO = (labs.HostSpec("near"), labs.HostSpec("far"))
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def hosts(own: labs.Lab, launcher: Launcher) -> dict[str, labs.LabHost]:
    """Two hosts with FUSE."""
    launcher.inventory.write_text(labs.inventory(own, "/usr/bin/python3"))
    if own.hosts["far"].run("test", "-w", "/dev/fuse", check=False).returncode:
        pytest.skip("there is no /dev/fuse")
    for host in own.hosts.values():
        host.run("mkdir", "-p", FAR)
    return own.hosts


def _agents(host: labs.LabHost) -> list[str]:
    """Return the agent's processes that are not about to end."""
    return [" ".join(one.argv) for one in host.processes() if "agent-" in " ".join(one.argv)]


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_one_that_hangs_is_named(hosts: dict[str, labs.LabHost], launcher: Launcher) -> None:
    """A run that has it ends, no other begins, and nothing that asks that host hangs."""
    far = hosts["far"]
    far.write("/srv/hung.py", Path(hung_mount.__file__).read_bytes())
    serving = str(far.spawn("/usr/bin/python3", "/srv/hung.py", FAR))
    labs.wait_until(lambda: far.run("stat", "-f", "-c", "%T", FAR).stdout == b"fuseblk\n", FAR, 20)
    script = launcher.script(SCRIPT)
    running = launcher.start(*WORDS, "--", "/usr/bin/python3", script)
    try:
        for host in hosts.values():
            labs.wait_until(
                lambda host=host: host.exists("/tmp/looked") or running.poll() is not None,
                "it runs",
                60,
            )
        far.run("kill", "-USR1", serving)
        for host in hosts.values():
            host.write("/tmp/go", b"")
        said = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 0, said
    began = time.monotonic()
    refused = launcher.run(*WORDS, "--", "/usr/bin/python3", script)
    assert refused.code == 125
    assert f"data: {FAR} does not answer on far" in refused.err
    assert time.monotonic() < began + 40
    unchecked = launcher.run(*WORDS, "--no-check", "--", "/usr/bin/python3", script)
    assert f"far: {FAR} does not answer there" in unchecked.err
    where = ("-i", str(launcher.inventory))
    for words in (("data", "prune", "--keep", "0"), ("df",), ("check",)):
        done = launcher.call(*words, *where)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    removed = launcher.call("rm", "--hosts", *where)
    assert removed.returncode in (0, 2), removed.stderr
    far.run("kill", serving)
    labs.wait_until(lambda: not _agents(far), "the agent is gone", 30)


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_a_real_one_over_the_network(
    own: labs.Lab, hosts: dict[str, labs.LabHost], launcher: Launcher
) -> None:
    """As sshfs mounts it: for all, for another user alone, and once its server is gone."""
    if not shutil.which("sshfs"):
        pytest.skip("needs sshfs")
    near, far = hosts["near"], hosts["far"]
    near.write(f"{FAR}/x", b"one\n")
    far.write("/root/key", own.identity_file.read_bytes(), 0o600)
    far.add_user("bob", "not needed")
    far.run("install", "-o", "bob", "-m", "600", "/root/key", "/home/bob/key")
    about = f"root@{near.address}:{FAR} {FAR} -o StrictHostKeyChecking=no,IdentityFile="
    script = launcher.script('print(open("data/far/x").read())')

    def run() -> tuple[int, str]:
        ran = launcher.run(*WORDS, "--", "/usr/bin/python3", script)
        return ran.code, ran.out + ran.err

    far.run("sh", "-c", f"sshfs {about}/root/key")
    code, said = run()
    assert (code, said.count("one")) == (0, 2), said
    far.run("umount", FAR)
    far.run("chown", "bob", FAR)
    far.run("runuser", "-u", "bob", "--", "sh", "-c", f"sshfs {about}/home/bob/key")
    code, said = run()
    assert code == 125
    assert f"data: {FAR} is on near only, and not on far" in said
    far.run("umount", FAR)
    far.run("sh", "-c", f"sshfs {about}/root/key")
    near.drop_packets("far")
    code, said = run()
    assert code == 125
    assert f"data: {FAR} does not answer on far" in said
    near.unblock()
