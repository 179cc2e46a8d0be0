"""`launcher bootstrap`: from a host with a login by password to one on which a run works."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support import ROOT, freshroot
from support import lab as labs
from support.bootstrap_user import PASSWORD, User, key_of

#: What a root on the host, and what anybody here, could read while sudo runs.
SPY = """\
#!/bin/sh
for p in /proc/[0-9]*; do cat "$p/cmdline" "$p/environ"; echo; done >/spied 2>/dev/null | tr '\\0' ' '
exec /bin/cp "$@"
"""


@pytest.fixture
def user(own: labs.Lab, tmp_path: Path) -> User:
    place = tmp_path / "it's me"
    place.mkdir()
    return User(own, place)


def here(pid: int) -> bytes:
    """What anybody on this machine can read of a process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        pids = [pid, *map(int, file.read().split())]
    found = b""
    for part in (Path(f"/proc/{p}/{name}") for p in pids for name in ("cmdline", "environ")):
        with suppress(OSError):  # it has ended
            found += part.read_bytes()
    return found


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            yield file, file.read_bytes()


THREE = (
    labs.HostSpec("near", passwords=True),
    labs.HostSpec("far", passwords=True, port=2222, behind="near"),
    labs.HostSpec("off", passwords=True),
)


@pytest.mark.parametrize("own", [THREE], indirect=True)
def test_from_a_password_to_ready(user: User) -> None:
    """Host keys and the password are asked for, once; one host is down, and the others go on.

    A second time there is nothing to do. The password is nowhere: not in what processes show while
    sudo runs, here and there, nor in any file of either side.
    """
    near, far, off = user.lab.hosts.values()
    near.add_user("alice", PASSWORD, sudo=True)
    near.write("/usr/local/sbin/cp", SPY.encode(), 0o755)
    far.add_user("root", PASSWORD)
    off.stop_sshd()
    user.write(near="user: alice", far="user: root, port: 2222, proxy_jump: near", off="user: root")
    with user.at_a_terminal("bootstrap", "--with", "own-name") as terminal:
        terminal.expect(f"near ({near.address} port 22) is not in known_hosts")
        terminal.expect(fingerprint(near))
        terminal.type("y")
        terminal.expect("password of alice on near")
        assert not user.known_hosts.read_bytes().count(b"[")  # far was not reached yet
        terminal.type("wrong")
        terminal.expect("wrong login password for alice")
        terminal.expect("password of alice on near")
        terminal.type(PASSWORD)
        terminal.expect(fingerprint(far))
        terminal.type("y")
        terminal.expect("password of root on far")
        terminal.type(PASSWORD)
        terminal.expect(", not 127.0.1.1 ...")
        spied = here(terminal.pid)
        code = terminal.end()
    said = terminal.seen.decode()
    assert code == 1, said
    assert said.count("password of alice") == 2, "asked, and asked again; sudo takes the same"
    for name in ("near", "far"):
        assert re.search(rf"^{name}  ready, 2 changes made", said, re.M), said
    assert "off  not ready" in said
    assert "nothing listens on" in said
    assert near.read("/home/alice/.ssh/authorized_keys").split() == key_of(user)
    assert near.run("getent", "hosts", "near").stdout.split()[0] == near.address.encode()

    near.run("cp", "/etc/hosts.before-launcher", "/etc/hosts")  # now it lets in without a password
    said += with_the_sudo_password(user)
    assert near.run("getent", "hosts", "near").stdout.split()[0] == near.address.encode()

    spied += near.read("/spied")
    assert b"sudo" in spied, "it looked while sudo ran"
    assert PASSWORD.encode() not in spied
    assert PASSWORD not in said
    assert_no_file_holds_the_password(user, near, far)

    off.start_sshd()
    known = user.known_hosts.read_bytes()
    again = user.call("bootstrap", "--with", "own-name", "--hosts", "near,far")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "far,near  ready, nothing to do\n"
    assert user.known_hosts.read_bytes() == known


def with_the_sudo_password(user: User) -> str:
    """Bootstrap ``near`` again, with a wrong password first; return what the terminal showed."""
    with user.at_a_terminal("bootstrap", "--only", "own-name", "--hosts", "near") as terminal:
        terminal.expect("sudo password of alice on near")
        terminal.type("wrong")
        terminal.expect("near: wrong sudo password for alice")
        terminal.expect("sudo password of alice on near")  # what is typed before is thrown away
        terminal.type(PASSWORD)
        assert terminal.end() == 0, terminal.seen.decode()
    return terminal.seen.decode()


def assert_no_file_holds_the_password(user: User, *hosts: labs.LabHost) -> None:
    """Look through the user's files, and the disks, /tmp and /run of hosts."""
    written = [host.dir / part for host in hosts for part in ("upper", "home")]
    written += [host.path(part) for host in hosts for part in ("/tmp", "/run")]
    for folder in [user.place, *written]:
        assert not [file for file, data in files(folder) if PASSWORD.encode() in data]


def fingerprint(host: labs.LabHost) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(host.host_key) + ".pub"],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.split()[1]


TWO = (labs.HostSpec("one", passwords=True), labs.HostSpec("two", passwords=True))

BUG = """\
import launcher.fleet.bootstrap.plan
def broken(look, goal): raise RuntimeError("broken")
launcher.fleet.bootstrap.plan.decide = broken
"""


@pytest.mark.parametrize("own", [TWO], indirect=True)
def test_nothing_is_trusted_or_changed_unasked(user: User) -> None:
    """Without a terminal no key is accepted; --accept-new says what it accepts; a dry run writes
    nothing; a key that has changed is not repaired, and gets no password."""
    one, two = user.lab.hosts.values()
    one.add_user("root", PASSWORD)
    user.write(one="user: root", two="user: root")
    refused = user.call("bootstrap")
    assert refused.returncode == 1
    assert f"the host key {fingerprint(one)} is not in known_hosts" in refused.stdout
    assert not user.known_hosts.exists()

    accepted = user.call("bootstrap", "--accept-new", "--hosts", "two")
    assert f"added the host key {fingerprint(two)} to {user.known_hosts}" in accepted.stderr
    assert "login as root needs a password" in accepted.stdout
    two.change_host_key()
    known = user.known_hosts.read_bytes()

    with user.at_a_terminal("bootstrap", "--dry-run", "--json", "--accept-new") as terminal:
        terminal.expect("password of root on one:")  # and not on two
        terminal.type(PASSWORD)
        assert terminal.end() == 1
    said = terminal.seen.decode()
    told = {host["host"]: host for host in json.loads(said[said.index("[\r\n") :])}
    assert told["one"]["status"] == "would-change"
    assert [change["step"] for change in told["one"]["changes"]] == ["key"]
    assert told["two"]["error"]["code"] == "host-key-mismatch"
    assert "ssh-keygen -f" in told["two"]["error"]["hint"]
    assert user.known_hosts.read_bytes() == known
    assert not one.exists("/root/.ssh")

    # A bug of ours, after the password was given: where it is told, the password is not.
    (user.place / "sitecustomize.py").write_text(BUG)
    user.env["PYTHONPATH"] = f"{user.place}:{ROOT}"
    with user.at_a_terminal("bootstrap", "--hosts", "one", "--accept-new") as terminal:
        terminal.expect("password of root on one:")
        terminal.type(PASSWORD)
        assert terminal.end() == 125
    assert b"RuntimeError: broken" in terminal.seen
    traceback = (user.place / "launcher" / "traceback.txt").read_text()
    assert "in _look" in traceback
    assert PASSWORD not in traceback + terminal.seen.decode()
    (user.place / "sitecustomize.py").unlink()

    with user.at_a_terminal("bootstrap", "--hosts", "one", "--accept-new") as terminal:
        for _ in range(3):
            terminal.expect("password of root on one:")
            terminal.type("wrong")
        assert terminal.end() == 1
    assert b"wrong password for root" in terminal.seen
    assert not one.exists("/root/.ssh")


FRESH = (
    labs.HostSpec("bare", passwords=True, disk=freshroot.place() if freshroot.ready() else None),
)


@pytest.mark.skipif(not freshroot.ready(), reason="no fresh disk yet: make disk")
@pytest.mark.parametrize("own", [FRESH], indirect=True)
def test_from_a_fresh_disk_to_a_run(user: User) -> None:
    """Debian as it is installed, without Python and rsync, and a user who may use sudo."""
    bare = user.lab.hosts["bare"]
    bare.add_user("alice", PASSWORD, sudo=True)
    assert bare.run("sh", "-c", "command -v python3 rsync", check=False).returncode != 0
    wheel(bare, "/srv/wheels")
    user.knows("bare")
    user.write(bare='user: alice, python: "~/my env/bin/python"')
    requirements = user.place / "requirements.txt"
    requirements.write_text("--no-index\n--find-links /srv/wheels\ntiny-thing==1.0\n")
    words = ("bootstrap", "--requirements", str(requirements))
    with user.at_a_terminal(*words) as terminal:
        terminal.expect("password of alice on bare:")
        terminal.type(PASSWORD)
        assert terminal.end() == 0, terminal.seen.decode()
    for step in ("key", "rsync", "python", "venv", "requirements"):
        assert f"  {step}: ".encode() in terminal.seen
    again = user.call(*words)
    assert "bare  ready, nothing to do" in again.stdout, again.stdout + again.stderr

    (user.place / "try.py").write_text(
        "import tiny_thing, sys; print(tiny_thing.VALUE, sys.prefix)"
    )
    ran = user.call("run", "--framework", "env", "python try.py")
    assert ran.returncode == 0, ran.stderr
    assert "42 /home/alice/my env" in ran.stdout


def wheel(host: labs.LabHost, folder: str) -> None:
    """A package that can be installed there without a network."""
    file = host.dir / "tiny_thing-1.0-py3-none-any.whl"
    about = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny_thing.py", "VALUE = 42\n")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n"
        )
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{about}/WHEEL", tag)
        archive.writestr(f"{about}/RECORD", "")
    host.write(f"{folder}/{file.name}", file.read_bytes())
