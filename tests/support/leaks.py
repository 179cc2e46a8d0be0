"""Looks for words that have to be in no file: keys, secrets, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support import lab as labs

#: Where runs of root, and of launcher, write on a host. Programs of the tests' own may be below.
PLACES = ("/root/.launcher", "/tmp", "/var/tmp", "/run")
PROGRAMS = ("--exclude-dir=agent", "--exclude=weed", "--exclude=uv")


def in_no_file(words: Sequence[str], here: Path, lab: labs.Lab) -> None:
    """Look into all files below a folder of this machine, but those of its credentials, and on two hosts."""
    wanted = [word.encode() for word in words]
    for path in here.rglob("*"):
        if path.is_file() and path.parent != here / "credentials":
            data = path.read_bytes()
            assert not [word for word in wanted if word in data], path
    patterns = [part for word in words for part in ("-e", word)]
    for name in ("lab1", "lab2"):
        grep = ("grep", "-rlF", *patterns, *PROGRAMS, *PLACES)
        found = lab.hosts[name].run(*grep, check=False)
        assert found.stdout == b"", found.stdout
