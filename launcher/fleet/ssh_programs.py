"""Programs that an ssh_config of somebody else's would run, and whether the user has allowed them.

An inventory may come with a ssh_config, from a colleague or out of a repository. ``Match exec``,
``ProxyCommand`` and ``KnownHostsCommand`` in it run as soon as ssh(1) is asked about a host. The user's
own files and the system's are not looked at.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..records.run_folder import home, write_at_home
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.model import Inventory

#: The most files that are followed through ``Include``, and the most bytes of each.
MOST_FILES, MOST_BYTES = 64, 1 << 20
#: Where allowed lines are noted: a file of :func:`home`, with one digest a line.
ALLOWED = "allowed-ssh-programs"

_LINE = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*?)\s*$")
_RUNS = ("proxycommand", "knownhostscommand")


@frozen
class ProgramLine:
    """A line that runs a program: its file, number and text."""

    file: str
    number: int
    text: str


def programs(inventory: Inventory) -> tuple[ProgramLine, ...]:
    """Return the lines of the inventory's ssh_config that run programs, also of included files."""
    if not inventory.ssh_config or inventory.sandbox:
        return ()
    return tuple(_programs(Path(inventory.ssh_config).expanduser(), set()))


def are_allowed(lines: tuple[ProgramLine, ...]) -> bool:
    """Whether the user has allowed just these lines before, or there are none."""
    return not lines or _digest(lines) in _noted()


def allow(lines: tuple[ProgramLine, ...]) -> None:
    """Note that these lines may run. Raises OSError."""
    write_at_home(ALLOWED, "".join(f"{one}\n" for one in (*_noted(), _digest(lines))))


def require_allowed(inventory: Inventory) -> None:
    """Raise InputError where the inventory's ssh_config would run what the user has not allowed."""
    lines = programs(inventory)
    if not are_allowed(lines):
        first = lines[0]
        raise InputError(
            f"{first.file}:{first.number} runs a program as soon as hosts are asked for: {first.text}",
            f"read it; then allow it once: launcher inventory allow -i {inventory.source}",
        )


def _noted() -> list[str]:
    try:
        return (home() / ALLOWED).read_text().split()
    except OSError:
        return []


def _digest(lines: tuple[ProgramLine, ...]) -> str:
    texts = "\0".join(f"{line.file}\0{line.text}" for line in lines)
    return hashlib.sha256(texts.encode(errors="surrogateescape")).hexdigest()


def _programs(file: Path, seen: set[Path]) -> Iterator[ProgramLine]:
    file = file.resolve()
    own = (Path("~/.ssh").expanduser().resolve(), Path("/etc/ssh"))
    if file in seen or len(seen) >= MOST_FILES or any(map(file.is_relative_to, own)):
        return
    seen.add(file)
    try:
        with file.open(errors="surrogateescape") as stream:
            lines = stream.read(MOST_BYTES).splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        if (found := _LINE.match(line)) is None:
            continue
        keyword, value = found[1].lower(), found[2]
        runs = keyword in _RUNS and value.strip('"').lower() != "none"
        if runs or (keyword == "match" and re.search(r"(?i)(^|[\s!])exec\b", value)):
            yield ProgramLine(str(file), number, line.strip())
        elif keyword == "include":
            for path in _included(value):
                yield from _programs(path, seen)


def _included(value: str) -> Iterator[Path]:
    for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', value):
        pattern = os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(quoted or plain))
        yield from map(Path, sorted(glob.glob(pattern)))
