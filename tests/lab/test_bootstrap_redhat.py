"""`launcher bootstrap` on a host of the Red Hat family, whose packages the real dnf installs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import lab as labs
from support import redhat
from support.bootstrap_user import PASSWORD, User

ONE = (labs.HostSpec("rocky", own_name="", passwords=True),)


@pytest.mark.skipif(bool(redhat.missing()), reason=f"not installed here: {redhat.missing()}")
@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_from_bare_to_a_run_with_dnf(own: labs.Lab, tmp_path: Path) -> None:
    """Open MPI lies there where its own packages put it, which no PATH of the user's has."""
    host = own.hosts["rocky"]
    redhat.convert(host, redhat.packages(tmp_path))
    host.add_user("alice", PASSWORD, sudo=True)
    place = tmp_path / "me"
    place.mkdir()
    user = User(own, place)
    user.knows("rocky")
    user.write(rocky="user: alice, python: python3.11")
    with user.at_a_terminal("bootstrap", "--with", "openmpi") as terminal:
        terminal.expect("password of alice on rocky:")
        terminal.type(PASSWORD)
        code = terminal.end()
    said = terminal.seen.decode()
    assert code == 0, said
    assert "rsync: install rsync\r\n" in said
    assert "python: install python3.11\r\n" in said
    assert "openmpi: install openmpi, openmpi-devel\r\n" in said
    assert "/usr/lib64/openmpi/bin is not on PATH" in said
    installed = host.run("rpm", "--query", "rsync", "python3.11", "openmpi").stdout.split()
    assert all(name.endswith(b"-1-1.x86_64") for name in installed), installed

    again = user.call("bootstrap", "--with", "openmpi")
    assert "rocky  ready, nothing to do" in again.stdout, again.stdout + again.stderr
    ran = user.call("run", "--framework", "env", "--", "python3.11", "-c", "print(6 * 7)")
    assert ran.returncode == 0, ran.stderr
    assert "42" in ran.stdout

    host.write("/etc/sudoers.d/alice", b"alice ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
    user.write(rocky="user: alice, python: python3.13")
    lacking = user.call("bootstrap")
    assert lacking.returncode == 1
    assert "Unable to find a match: python3.13" in lacking.stdout  # its repository has none
    assert "can the host reach its package mirror?" in lacking.stdout
