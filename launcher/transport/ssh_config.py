"""The part of an ssh_config that can concern one host.

For every connection asyncssh reads the whole file and splits each line. With a block for each of 64
hosts that takes half a second, so it gets a copy without the blocks of other hosts. They are blank
lines there: a complaint about a line still has the right number.
"""

from __future__ import annotations

import glob
import re
import shlex
from pathlib import Path

from ..spec.frozen import frozen

_NAME = re.compile(r"[\w.-]+")


class SshConfig:
    """One file, split into blocks when a host first needs it."""

    def __init__(self, path: Path, above: tuple[Path, ...] = ()) -> None:
        self.path = path
        self._chain = (*above, path)  # of files that include each other, down to this one
        self._blocks: tuple[_Block, ...] | None = None

    def copy(self, host: str, folder: Path) -> Path:
        """Write what may concern ``host`` below ``folder``, at its own path there, and return where.
        Return the whole file's path when it cannot be read, for asyncssh to say why."""
        try:
            if self._blocks is None:
                self._blocks = _blocks(self._chain)
        except (OSError, ValueError):  # ValueError: a quote without its end, or no text
            return self.path
        place = folder / self.path.absolute().relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(block.text(host, folder) for block in self._blocks))
        return place


#: A line as it stands, and the files that it includes.
_Line = tuple[str, tuple[SshConfig, ...]]


@frozen
class _Block:
    """From one ``Host`` or ``Match`` to the next: its lines.

    ``names`` are the only hosts that it is for; None: that depends on patterns or conditions.
    """

    names: frozenset[str] | None
    lines: tuple[_Line, ...]

    def text(self, host: str, folder: Path) -> str:
        """Return its lines, blank ones for a host that it is not for."""
        if self.names is not None and host not in self.names:
            return "\n" * len(self.lines)
        return "".join(
            f"Include {shlex.join(glob.escape(str(file.copy(host, folder))) for file in files)}\n"
            if files
            else line
            for line, files in self.lines
        )


def _blocks(chain: tuple[Path, ...]) -> tuple[_Block, ...]:
    blocks: list[tuple[frozenset[str] | None, list[_Line]]] = [(None, [])]
    with chain[-1].open() as file:
        for line in file:
            keyword, words = _split(line)
            if re.match("(host|match)(=|$)", keyword):
                blocks.append((_names(keyword, words), []))
            included = _included(words) if keyword == "include" else []
            if set(included) & set(chain):
                included = []  # a circle, which asyncssh is left to find
            blocks[-1][1].append((line, tuple(SshConfig(path, chain) for path in included)))
    return tuple(_Block(names, tuple(lines)) for names, lines in blocks)


def _split(line: str) -> tuple[str, list[str]]:
    """The first word, in lower case, and the others."""
    words = [] if line.lstrip().startswith("#") else shlex.split(line)
    return (words[0].lower(), words[1:]) if words else ("", [])


def _names(keyword: str, words: list[str]) -> frozenset[str] | None:
    named = keyword == "host" and words and all(map(_NAME.fullmatch, words))
    return frozenset(words) if named else None


def _included(patterns: list[str]) -> list[Path]:
    """The files that asyncssh would read for an ``Include``; none where that is not plain to see."""
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith("="):
            return []
        path = Path(pattern).expanduser()
        root = Path(path.anchor) if path.anchor else Path("~/.ssh").expanduser()
        found += filter(Path.is_file, root.glob(str(path.relative_to(path.anchor))))
    return found
