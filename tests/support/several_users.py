"""A host with several users, and the launcher of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import lab as labs
from .command import Launcher
from .hosts import need_lab

#: A Python that every user of a host may execute.
PYTHON = "/usr/bin/python3"


@contextlib.contextmanager
def host_of(
    folder: Path, users: Sequence[str], but: Sequence[str] = (), gpus: int = 0
) -> Iterator[labs.Lab]:
    """Run a lab of one host. These ``users`` may log in; those ``but`` have an account alone."""
    need_lab()
    spec = labs.HostSpec("one", gpus=gpus, own_name="", passwords=True)
    with labs.Lab([spec], folder) as standing:
        (host,) = standing.hosts.values()
        key = standing.identity_file.with_suffix(".pub").read_bytes()
        for user in (*users, *but):
            if user != "root":
                host.add_user(user, "not needed")
        for user in users:
            host.let_in(user, key)
        yield standing


def launcher_of(lab: labs.Lab, folder: Path, user: str, **settings: object) -> Launcher:
    """Return the launcher of somebody who logs in as ``user``; ``settings`` are those of the host."""
    work = folder / f"{user}'s work"
    work.mkdir(exist_ok=True)
    about = {"user": user, "python": PYTHON, **settings}
    inventory = {"ssh_config": str(lab.ssh_config), "hosts": {"one": about}}
    file = folder / f"{user}.yaml"
    file.write_text(json.dumps(inventory))
    return Launcher(file, work, folder / f"{user}'s home")
