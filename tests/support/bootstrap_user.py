"""A user who has a password on each host, and no key there yet."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support import ROOT
from support import lab as labs
from support.own_home import at_home
from support.terminal import Terminal

PASSWORD = "correct-Horse 7"


@dataclass
class User:
    """A user with a home of their own here, and an inventory of the lab's hosts."""

    lab: labs.Lab
    place: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.place / "home"
        self.ssh = self.home / ".ssh"
        self.known_hosts = self.ssh / "known_hosts"
        self.ssh.mkdir(parents=True, mode=0o700)
        key = str(self.ssh / "id_ed25519")
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me at home", "-f", key]
        subprocess.run(command, check=True)
        self.inventory = self.place / "inventory.yaml"
        self.env = {
            **{k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"},
            "HOME": str(self.home),
            "LAUNCHER_HOME": str(self.place / "launcher"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }

    def write(self, **hosts: str) -> None:
        """Write the inventory: more settings by host name, in YAML's braces."""
        lines = "".join(
            f"  {name}: {{address: {self.lab.hosts[name].address}, gpus: 0, {more}}}\n"
            for name, more in hosts.items()
        )
        self.inventory.write_text(f"ssh_config: /dev/null\nhosts:\n{lines}")

    def argv(self, *words: str) -> list[str]:
        first, *rest = words
        launcher = [sys.executable, "-m", "launcher", first, "-i", str(self.inventory), *rest]
        return at_home(self.home, launcher)

    def call(self, *words: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal."""
        return subprocess.run(
            self.argv(*words),
            cwd=self.place,
            env=self.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )

    def at_a_terminal(self, *words: str) -> Terminal:
        return Terminal(self.argv(*words), self.place, self.env)

    def knows(self, *names: str) -> None:
        """Record the host keys, as a first `ssh` does."""
        entries = self.lab.known_hosts.read_text().splitlines(keepends=True)
        lines = [line for line in entries if line.split(",")[0].split("]")[0].lstrip("[") in names]
        self.known_hosts.write_text("".join(lines))


def key_of(user: User) -> list[bytes]:
    return (user.ssh / "id_ed25519.pub").read_bytes().split()
