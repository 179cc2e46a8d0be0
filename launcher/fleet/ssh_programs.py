"""Programs that an ssh_config of somebody else's would run, and whether the user has allowed them.

An inventory may come with a ssh_config, from a colleague or out of a repository. ``Match exec``,
``ProxyCommand`` and other keywords in it run programs as soon as ssh(1) is asked about a host, or goes
there. The user's own files and the system's are not looked at.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.model import Inventory
from ..transport.program_notes import user_home as home_of_user
from . import allowed

#: The most files that are read through ``Include``, and the most bytes of each.
MOST_FILES, MOST_BYTES = 64, 1 << 20
#: Where allowed lines are noted: a file of :func:`home`, with one digest a line.
ALLOWED = "allowed-ssh-programs"

#: Keywords whose value is a program, or a library that ssh(1) loads.
_RUNS = (
    "proxycommand",
    "knownhostscommand",
    "localcommand",
    "pkcs11provider",
    "securitykeyprovider",
)
#: What ssh(1) may drop or take for a separator anywhere around a word.
_DROPPED = re.compile(r"""[\s"'=\\]+""")
_NONE = re.compile(r"\s*[a-z0-9]+(?:\s*=\s*|\s+)(?:none|\"none\")\s*", re.IGNORECASE | re.ASCII)
#: An Include that can be followed: no variables or tokens, and no pattern but ``*`` and ``?``.
_PATH = r"""(?:"[^"'\\$%[]+"|[^\s"'\\$%[]+)"""
_INCLUDE = re.compile(rf"\s*include(?:\s*=\s*|\s+)({_PATH}(?:\s+{_PATH})*)\s*", re.IGNORECASE)


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
    """Return whether the user has allowed just these lines before, or there are none."""
    return not lines or allowed.is_noted(ALLOWED, _digest(lines))


def allow(lines: tuple[ProgramLine, ...]) -> None:
    """Note that these lines may run. Raises OSError."""
    allowed.note(ALLOWED, _digest(lines))


def require_allowed(inventory: Inventory) -> None:
    """Raise InputError where the inventory's ssh_config would run what the user has not allowed."""
    lines = programs(inventory)
    if not are_allowed(lines):
        first = lines[0]
        raise InputError(
            f"{first.file}:{first.number} runs a program as soon as hosts are asked for: {first.text}",
            f"read it; then allow it once: launcher inventory allow -i {inventory.source}",
        )


def _digest(lines: tuple[ProgramLine, ...]) -> str:
    return allowed.digest(*(part for line in lines for part in (line.file, line.text)))


def _programs(file: Path, seen: set[Path]) -> Iterator[ProgramLine]:
    """Yield more lines than would run rather than fewer: ssh(1) takes quotes anywhere in a word."""
    file = file.resolve()
    own = (Path("~/.ssh").expanduser().resolve(), Path(home_of_user(), ".ssh"), Path("/etc/ssh"))
    if file in seen or any(map(file.is_relative_to, own)) or not file.exists():
        return
    seen.add(file)
    for number, line in enumerate(_lines(file, len(seen)), 1):
        plain = _DROPPED.sub("", line).lower()
        runs = plain.startswith(_RUNS) and not _NONE.fullmatch(line)
        if runs or (plain.startswith("match") and "exec" in plain):
            yield ProgramLine(str(file), number, line.strip())
        elif plain.startswith("include"):
            paths = _INCLUDE.fullmatch(line)
            if paths is None:
                yield ProgramLine(str(file), number, line.strip())
            for path in _included(paths[1]) if paths else ():
                yield from _programs(path, seen)


def _lines(file: Path, count: int) -> list[str]:
    """Return the lines of a file as ssh(1) sees them. Raises InputError for what is not read whole."""
    hint = "name its hosts in the inventory itself, without this ssh_config"
    if count > MOST_FILES:
        raise InputError(f"{file}: an ssh_config with more than {MOST_FILES} files", hint)
    if file == Path(os.devnull):
        return []
    if not file.is_file():
        raise InputError(f"{file}: an ssh_config that is not a file", hint)
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError:
        return []  # nor can ssh(1) read it
    if len(data) > MOST_BYTES:
        raise InputError(f"{file}: an ssh_config of more than {MOST_BYTES >> 20} MiB", hint)
    return data.decode(errors="surrogateescape").split("\n")


def _included(value: str) -> Iterator[Path]:
    for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', value):
        path = quoted or plain
        if path.startswith("~/"):
            path = home_of_user() + path[1:]
        pattern = os.path.join(home_of_user(), ".ssh", os.path.expanduser(path))
        yield from map(Path, sorted(glob.glob(pattern)))
