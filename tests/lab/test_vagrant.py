"""The Vagrantfile and its inventory: they match, and bootstrap makes such machines ready."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support import ROOT
from support import lab as labs
from support.bootstrap_user import User, key_of
from support.vagrant import machines

NODES = tuple(labs.HostSpec(f"node{number}", passwords=True) for number in (1, 2, 3))


@pytest.mark.parametrize("own", [NODES], indirect=True)
def test_bootstrap_makes_such_machines_ready(own: labs.Lab, tmp_path: Path) -> None:
    """Users made by the Vagrantfile's own script; in by its key, sudo without a password."""
    (tmp_path / "me").mkdir()
    user = User(own, tmp_path / "me")
    begin = tmp_path / "private_key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vagrant", "-f", str(begin)]
    subprocess.run(command, check=True)
    public = begin.with_suffix(".pub").read_bytes()
    found = machines()
    text = (ROOT / "inventory/vagrant.yaml").read_text()
    for name, host in own.hosts.items():
        text = text.replace(found[name]["private_network"]["ip"], host.address)
        host.add_user("vagrant", "vagrant")
        host.write("/home/vagrant/.ssh/authorized_keys", public)
        host.run("chown", "-R", "vagrant:", "/home/vagrant")
        host.write("/etc/sudoers.d/vagrant", b"vagrant ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        script = found[name]["account"]["inline"]
        host.run("sh", "-c", script, "sh", *found[name]["account"]["args"])
    user.inventory.write_text("ssh_config: /dev/null\n" + text)
    words = ("bootstrap", "--login-key", str(begin), "--accept-new", "--with", "own-name")
    made = user.call(*words)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "venv: create the environment /home/alice/env" in made.stdout
    assert (
        own.hosts["node3"]
        .read("/home/bob/.ssh/authorized_keys")
        .endswith(b" ".join(key_of(user)) + b"\n")
    )
    again = user.call("bootstrap", "--with", "own-name")
    assert again.stdout == "node[1-3]  ready, nothing to do\n", again.stdout + again.stderr
