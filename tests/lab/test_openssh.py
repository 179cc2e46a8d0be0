"""Connections by OpenSSH's own client: for logins that no library can do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher

PASSWORD = "correct horse"


@dataclass
class Master:
    """A login by password that a person has made by hand; others may ride on it."""

    config: Path
    host: str

    def open(self, askpass: Path) -> None:
        env = os.environ | {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        options = [
            "-oControlMaster=yes",
            "-oControlPersist=yes",
            "-oPreferredAuthentications=password",
        ]
        subprocess.run(
            ["ssh", "-F", self.config, *options, "-fN", self.host],
            check=True, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def close(self) -> None:
        argv = ["ssh", "-F", self.config, "-O", "exit", self.host]
        subprocess.run(argv, check=False, capture_output=True)


@pytest.fixture
def master(own: labs.Lab, tmp_path: Path) -> Iterator[Master]:
    """A host that takes passwords alone, and an ssh_config with a ControlPath."""
    host = own.hosts["guarded"]
    host.add_user("root", PASSWORD)
    config = tmp_path / "config"
    config.write_text(
        f"Host *\n  ControlPath {tmp_path}/%n\n  ControlMaster auto\n{own.ssh_config.read_text()}"
    )
    made = Master(config, "guarded")
    yield made
    made.close()


@pytest.fixture
def launcher(master: Master, own: labs.Lab, tmp_path: Path) -> Launcher:
    work = tmp_path / "work"
    work.mkdir()
    inventory = tmp_path / "inventory.yaml"
    text = labs.inventory(own, "/usr/bin/python3").replace(", transport: openssh", "")
    inventory.write_text(text.replace(str(own.ssh_config), str(master.config)))
    return Launcher(inventory, work, tmp_path / "home")


ONE = (labs.HostSpec("guarded", passwords=True),)
RUN = ("--framework", "env", "echo in-$((40 + 2)) | tee $LAUNCHER_OUTPUT_DIR/said")


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_an_open_login_of_the_user_is_enough(
    launcher: Launcher, master: Master, tmp_path: Path
) -> None:
    """asyncssh is denied, and `ssh` gets in without a question: the run takes that way, and says so;
    code goes there and outputs come back by it."""
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    askpass.chmod(0o700)
    denied = launcher.run(*RUN)
    assert denied.code != 0
    assert "login as root@" in denied.err, denied.err
    master.open(askpass)
    done = launcher.run(*RUN)
    assert done.code == 0, done.err
    assert "in-42" in done.out
    assert done.err.count("transport: openssh in the inventory") == 1, done.err
    outputs = (launcher.home / "runs").glob("*/outputs/**/said")
    assert [file.read_text() for file in outputs] == ["in-42\n"]


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_the_inventory_may_ask_for_it(launcher: Launcher, master: Master) -> None:
    """Then a login that is refused is told in ssh's own words."""
    text = launcher.inventory.read_text()
    launcher.inventory.write_text(text.replace("user: root", "user: root, transport: openssh"))
    refused = launcher.run(*RUN)
    assert refused.code != 0
    assert "guarded: ssh: " in refused.err, refused.err
    assert "Permission denied" in refused.err
    assert "does `ssh guarded` work without a question?" in refused.err
    assert refused.receipt["reason"] == "authentication-failed"
