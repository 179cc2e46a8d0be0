"""Users of a host share data sets as its folders allow: real users, and what the kernel lets them do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.several_users import PYTHON, host_of, launcher_of

FOLDER = "/srv/sets"
SIZE = 3_000_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A host of u1 and u2, and mallory."""
    with host_of(tmp_path_factory.mktemp("shared"), ["u1", "u2"], ["mallory"]) as found:
        yield found


@pytest.fixture
def host(shared: labs.Lab) -> Iterator[labs.LabHost]:
    """The host with a folder for the sets of all its users, and no set."""
    (host,) = shared.hosts.values()
    host.run("mkdir", "-m", "1777", FOLDER)
    yield host
    host.run("sh", "-c", f"rm -rf {FOLDER} /home/*/.launcher/host/data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A set with a large file, small ones, and what is in no block."""
    folder = tmp_path / "set"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(SIZE))
    (folder / "deep" / "er" / "é\n").write_bytes(b"small")
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to("deep/er")
    (folder / "tool").write_bytes(b"#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    return folder


class User:
    """Somebody who has a launcher, and data sets on the host."""

    def __init__(self, shared: labs.Lab, home: Path, name: str, **settings: object) -> None:
        self.name, self.lab = name, shared
        (self.host,) = shared.hosts.values()
        self.launcher = launcher_of(shared, home, name, data_folder=FOLDER, **settings)

    def push(self, source: Path | str, code: int = 0) -> tuple[dict[str, Any], str]:
        """Push a set; return what launcher says, and what it shows."""
        assert self.launcher.call("data", "add", "mine", str(source)).returncode == 0
        words = ("data", "push", "mine", "-i", str(self.launcher.inventory), "--json")
        pushed = self.launcher.call(*words)
        assert pushed.returncode == code, pushed.stderr
        return json.loads(pushed.stdout), pushed.stderr

    def verify(self) -> None:
        """See that the host has all of it."""
        words = ("data", "verify", "mine", "-i", str(self.launcher.inventory))
        done = self.launcher.call(*words)
        assert (done.returncode, done.stdout) == (0, "one: whole\n"), done

    def there(self, version: str) -> str:
        """Return where the host has a version."""
        link = f"/home/{self.name}/.launcher/host/data/{version}"
        return self.host.run("readlink", "-f", link).stdout.decode().strip()


@pytest.fixture
def u1(shared: labs.Lab, host: labs.LabHost, tmp_path: Path) -> User:
    return User(shared, tmp_path, "u1")


@pytest.fixture
def u2(shared: labs.Lab, host: labs.LabHost, tmp_path: Path) -> User:
    return User(shared, tmp_path, "u2")


def test_a_set_comes_from_another_user(u1: User, u2: User, source: Path) -> None:
    """Only its list travels; the copy is u2's own, stays when u1 removes the set, and runs use it."""
    pushed, _ = u1.push(source)
    version = pushed["version"]
    assert pushed["sent"]["one"] > SIZE
    assert u1.there(version).startswith(f"{FOLDER}/u1.")
    met = u2.launcher.call(
        "queue", "-i", str(u2.launcher.inventory)
    )  # the agent is there from now on
    assert met.returncode == 0, met.stderr
    before = u1.lab.sent()
    pushed, told = u2.push(source)
    assert "one: data set mine is copied from u1's there" in told
    assert pushed["version"] == version
    assert pushed["sent"]["one"] < 10_000
    assert u1.lab.sent() - before < SIZE / 5, "it travelled"
    u2.verify()
    script = u2.launcher.script(
        "import os, sys\nos.chdir(os.environ['LAUNCHER_DATA_MINE'])\n"
        "print(os.path.getsize('large'), open('link/\\xe9\\n').read(), os.access('tool', os.X_OK))\n"
    )
    u1.launcher.call("data", "rm", "mine", "-i", str(u1.launcher.inventory), "--hosts", "one")
    assert not u1.host.exists(u1.there(version))
    ran = u2.launcher.run("--framework", "env", "--data", "mine", "--", PYTHON, script)
    assert ran.code == 0, ran.err
    assert ran.log("node-0.out") == b"%d small True\n" % SIZE
    assert u2.host.run("stat", "-c", "%U %a", u2.there(version)).stdout == b"u2 755\n"
    taken = u2.launcher.call("df", "-i", str(u2.launcher.inventory), "--json")
    assert json.loads(taken.stdout)["hosts"]["one"]["data"] > SIZE
    freed = u2.launcher.call("data", "prune", "-i", str(u2.launcher.inventory), "--keep", "0")
    assert freed.returncode == 0, freed.stderr
    assert u2.host.run("find", FOLDER, "-type", "f").stdout == b""


#: What may have become of u1's copy, as shell in its folder, and what u2 is told.
BROKEN = {
    "changed": (
        "chmod u+w large; printf X | dd of=large bs=1 conv=notrunc",
        "large has another sum",
    ),
    "not to be read": ("chmod 000 large", "large: Permission denied"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_nothing_of_another_user_is_believed(u1: User, u2: User, source: Path, what: str) -> None:
    """A copy that is not what it should be is told in a line, and the set comes from its source."""
    pushed, _ = u1.push(source)
    script, why = BROKEN[what]
    u1.host.run("sh", "-ec", f"cd {u1.there(pushed['version'])}/files; {script}")
    pushed, told = u2.push(source)
    text = "one: data set mine comes from its source, and not from u1's copy there"
    assert f"{text}: {why}" in told
    assert pushed["sent"]["one"] > SIZE
    u2.verify()


def test_who_may_not_enter_the_folder_shares_nothing(u1: User, u2: User, source: Path) -> None:
    """Root says by its group and permissions who shares; the others get an error, with what to do."""
    u1.host.run("sh", "-ec", f"groupadd lab; usermod -aG lab u1; chgrp lab {FOLDER}")
    u1.host.run("chmod", "3770", FOLDER)
    u1.push(source)
    pushed, told = u2.push(source, code=1)
    assert "Permission denied" in pushed["failed"]["one"]
    assert "data_folder" in told
