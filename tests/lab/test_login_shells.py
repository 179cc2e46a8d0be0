"""Login shells as people have them: csh and fish, startup files that print, and some that take over."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, Ran
from support.hosts import need_lab

PYTHON = "/usr/bin/python3"  # one that every user of a host may execute
SCRIPT = """
import os, pathlib
import helper
print("cache", os.environ.get("XDG_CACHE_HOME"), os.environ.get("XDG_RUNTIME_DIR"))
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "made").write_text("made")
"""
#: By login shell: its startup file, and lines of it that print and set a variable.
SHELLS = {
    "/bin/bash": (
        ".bashrc",
        "echo Welcome\nexport XDG_CACHE_HOME=/scratch/x XDG_RUNTIME_DIR=/run/x\n",
    ),
    "/usr/bin/zsh": (".zshenv", "printf 'no end of line'\nexport XDG_CACHE_HOME=/scratch/x\n"),
    "/usr/bin/fish": (
        ".config/fish/config.fish",
        "echo Welcome\nset -x XDG_CACHE_HOME /scratch/x\n",
    ),
    "/usr/bin/tcsh": (".tcshrc", "echo Welcome\nsetenv XDG_CACHE_HOME /scratch/x\n"),
    "/bin/dash": ("", ""),
    "/bin/ash": ("", ""),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A host with a plain user."""
    need_lab()
    spec = labs.HostSpec("one", passwords=True)
    with labs.Lab([spec], tmp_path_factory.mktemp("shells")) as standing:
        (host,) = standing.hosts.values()
        host.add_user("bob", "not needed")
        host.let_in("bob", standing.identity_file.with_suffix(".pub").read_bytes())
        if busybox := shutil.which("busybox"):
            host.run("ln", "-sf", busybox, "/bin/ash")
        host.run("sh", "-c", "ls /bin/ash /usr/bin/*sh /bin/*sh >>/etc/shells", check=False)
        yield standing


@pytest.fixture
def host(shared: labs.Lab) -> labs.LabHost:
    """The host, with a home of bob's as new."""
    (found,) = shared.hosts.values()
    found.run("sh", "-c", "cd ~bob; rm -rf .launcher .*rc .zshenv .config")
    return found


@pytest.fixture
def bob(shared: labs.Lab, host: labs.LabHost, launcher: Launcher, tmp_path: Path) -> Launcher:
    """The command, with bob's inventory."""
    file = tmp_path / "bob.yaml"
    file.write_text(labs.inventory(shared, PYTHON).replace("user: root", "user: bob"))
    launcher.script("", "helper.py")
    launcher.script(SCRIPT)
    return replace(launcher, inventory=file)


def login(host: labs.LabHost, shell: str, file: str = "", text: str = "") -> None:
    if not host.exists(shell):
        pytest.skip(f"there is no {shell} on this machine")
    host.run("usermod", "-s", shell, "bob")
    if file:
        host.write(f"/home/bob/{file}", text.encode())
        host.run("chown", "-R", "bob:", "/home/bob")


def printed(ran: Ran) -> bytes:
    return b"".join(file.read_bytes() for file in ran.folder.glob("logs/attempt-0/*"))


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell(bob: Launcher, host: labs.LabHost, shell: str) -> None:
    """Code, outputs, stacks of other programs: over a shell that prints, too."""
    file, text = SHELLS[shell]
    login(host, shell, file, text)
    ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
    assert ran.code == 0, ran.err
    if file:
        assert b"cache /scratch/x None" in printed(ran)
    assert (ran.folder / "outputs" / "made").read_text() == "made"
    assert not ran.receipt["outputs_failed"]
    done = bob.call("exec", ran.folder.name, "--", "sh", "-c", "echo it\\'s $((6 * 7))!")
    assert "it's 42!" in done.stdout, done


@pytest.mark.parametrize("text", ["exec sh\n", "read x\n", "exit 0\n"])
def test_a_startup_file_that_takes_over_is_named(
    bob: Launcher, host: labs.LabHost, text: str
) -> None:
    """The message names the file and the line to mend."""
    login(host, "/bin/bash", ".bashrc", text)
    ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
    assert ran.code == 125, ran.err
    assert re.search("startup file", ran.err), ran.err
    assert "[[ $- == *i* ]] || return" in ran.err
    if "exit" not in text:
        return  # it would take 20 s more
    checked = bob.call("check", "-i", str(bob.inventory))
    told = " ".join(
        (checked.stdout + checked.stderr).split()
    )  # it is folded to the terminal's width
    assert "[[ $- == *i* ]] || return" in told


def test_a_workdir_of_variables(bob: Launcher, host: labs.LabHost) -> None:
    """As a shell there reads it; else an error that names it."""
    login(host, "/bin/bash", ".bashrc", "export SCRATCH=/home/bob/my\\ disk\n")
    text = bob.inventory.read_text()
    bob.inventory.write_text(text.replace("user: bob", "user: bob, workdir: $SCRATCH/l"))
    ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
    assert ran.code == 0, ran.err
    assert host.exists("/home/bob/my disk/l/agent")
    bob.inventory.write_text(text.replace("user: bob", "user: bob, workdir: $WRONG/l"))
    ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
    assert ran.code == 125
    assert "$WRONG is not set" in ran.err
    assert not host.exists("/home/bob/$WRONG")


def test_files_that_are_named_like_comments(bob: Launcher, host: labs.LabHost) -> None:
    login(host, "/bin/bash")
    for name in ("#train.py#", ";x", "sub/#y", "-z", "a\nb"):
        bob.script(name, name)
    script = "import os; print(sorted(os.listdir('.')))"
    ran = bob.run("--framework", "env", "--", PYTHON, "-c", script)
    assert ran.code == 0, ran.err
    for name in (b"'#train.py#'", b"';x'", b"'-z'", rb"'a\nb'"):
        assert name in printed(ran)


def test_links_among_outputs(bob: Launcher, host: labs.LabHost) -> None:
    """`last.ckpt` and the like come as links; one to elsewhere is named in the receipt."""
    login(host, "/bin/bash")
    script = """
import os
os.chdir(os.environ["LAUNCHER_OUTPUT_DIR"])
open("epoch=3.ckpt", "w").write("3")
os.symlink("epoch=3.ckpt", "last.ckpt")
os.symlink("/etc/passwd", "users")
"""
    ran = bob.run("--framework", "env", "--", PYTHON, bob.script(script, "links.py"))
    assert ran.code == 0, ran.err
    last = ran.folder / "outputs" / "last.ckpt"
    assert last.is_symlink()
    assert last.read_text() == "3"
    assert not (ran.folder / "outputs" / "users").exists()
    assert "users was left there: it is a link to /etc/passwd" in str(ran.receipt["outputs_failed"])
    assert "users was left there" in ran.err + ran.out


def test_a_file_system_of_whole_seconds(bob: Launcher, host: labs.LabHost) -> None:
    """ext4 with small inodes: the code arrives, once, and a change within a second is not missed."""
    login(host, "/bin/bash")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4 on this machine")
    host.run("sh", "-c", "truncate -s 30M /root/e.img; mkfs.ext4 -q -I 128 /root/e.img")
    host.run("mkdir", "-p", "/mnt/coarse")
    mounted = host.run("mount", "-o", "loop", "/root/e.img", "/mnt/coarse", check=False)
    if mounted.returncode:
        pytest.skip("no loop devices here")
    host.run("mkdir", "/mnt/coarse/bob")
    host.run("chown", "bob:", "/mnt/coarse/bob")
    text = bob.inventory.read_text()
    bob.inventory.write_text(text.replace("user: bob", "user: bob, workdir: /mnt/coarse/bob/l"))
    try:
        for value in ("1", "2", "2"):
            bob.script(f"print('value {value}')")
            ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
            assert ran.code == 0, ran.err
            (log,) = bob.home.glob(f"runs/{ran.receipts[-1]['run']}/logs/attempt-0/*")
            assert log.read_text() == f"value {value}\n"
    finally:
        host.run("umount", "-l", "/mnt/coarse")


def test_a_file_system_of_even_seconds(bob: Launcher, host: labs.LabHost) -> None:
    """As FAT: the code arrives, once, and a change within two seconds is not missed."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler on this machine")
    login(host, "/bin/bash")
    host.even_seconds()
    try:
        for value, second in (("1", 0), ("2", 1), ("2", 1)):
            bob.script(f"print('value {value}')")
            os.utime(bob.work / "train.py", (10**9 + second, 10**9 + second))
            ran = bob.run("--framework", "env", "--", PYTHON, "train.py")
            assert ran.code == 0, ran.err
            newest = bob.home / "runs" / ran.receipts[-1]["run"]
            (log,) = newest.glob("logs/attempt-0/*")
            assert log.read_text() == f"value {value}\n"
    finally:
        host.even_seconds(keep=False)


def test_a_workdir_where_nothing_may_be_executed(bob: Launcher, host: labs.LabHost) -> None:
    """launcher's own programs are found; check says what of the job's is not, and rm leaves nothing."""
    login(host, "/bin/bash")
    host.run("mkdir", "-p", "/mnt/closed")
    host.run("mount", "-t", "tmpfs", "-o", "noexec,mode=755,uid=bob", "tmpfs", "/mnt/closed")
    text = bob.inventory.read_text()
    bob.inventory.write_text(text.replace("user: bob", "user: bob, workdir: /mnt/closed/l"))
    try:
        checked = bob.call("check", "-i", str(bob.inventory))
        ran = bob.run("--framework", "ssh", "command -v ssh python; python -V; ssh one hostname")
        assert ran.code == 0, ran.err
        ssh, python, version, name = ran.log("node-0.out").decode().split("\n")[:4]
        places = host.run("sh", "-c", "ls -d /dev/shm/launcher-* /tmp/launcher-*", check=False)
        assert bob.call("rm", "-").returncode == 0
        after = host.run("sh", "-c", "ls -d /dev/shm/launcher-* /tmp/launcher-*", check=False)
    finally:
        host.run("umount", "-l", "/mnt/closed")
    assert "DISK-NOEXEC" in checked.stdout + checked.stderr
    assert ssh.endswith("/relay/ssh")
    assert python.endswith("/bin/python")
    assert (version[:7], name) == ("Python ", "one")
    assert places.stdout.count(b"launcher-") == 2
    assert not after.stdout
