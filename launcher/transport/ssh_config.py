"""The part of an ssh_config that can concern one host.

For every connection asyncssh reads the whole file and splits each line. With a block for each of 64
hosts that takes half a second, so it gets a copy without the blocks of other hosts. They are blank
lines there: a complaint about a line still has the right number.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile

from ..spec.frozen import frozen

_NAME = re.compile(r"[\w.-]+")


class SshConfig:
    """One file, split into blocks when a host first needs it."""

    def __init__(self, path: Path, above: tuple[Path, ...] = ()) -> None:
        self.path = path
        self._chain = (*above, path)  # of files that include each other, down to this one
        self._blocks: tuple[_Block, ...] | None = None

    def blocks(self) -> tuple[_Block, ...]:
        """Return the whole file. Raises OSError, and ValueError for a quote without its end."""
        if self._blocks is None:
            self._blocks = _blocks(self._chain)
        return self._blocks


class HostFiles(ExitStack):
    """The files that asyncssh reads for one host; they are gone when the context ends."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host
        self._copied: dict[str, Path] = {}

    def copy(self, config: SshConfig) -> str:
        """Write the part that may concern the host; return its path.

        If the file cannot be read, return its own path: asyncssh then reports why.
        """
        try:
            blocks = config.blocks()
        except (OSError, ValueError):
            return str(config.path)
        path = self.write("".join(map(self._text, blocks)))
        self._copied[path] = config.path
        return path

    def write(self, text: str) -> str:
        """Write a file of its own; return its path."""
        file = self.enter_context(NamedTemporaryFile("w"))  # noqa: SIM115  closed by the stack
        file.write(text)
        file.flush()
        return file.name

    def explained(self, error: Exception) -> str:
        """Return the text of an error, with the user's own file in place of a copy."""
        text = str(error)
        for copy, path in self._copied.items():
            text = text.replace(copy, str(path))
        return text

    def _text(self, block: _Block) -> str:
        if block.names is not None and self._host not in block.names:
            return "\n" * len(block.lines)
        return "".join(self._including(files) if files else line for line, files in block.lines)

    def _including(self, files: Iterable[SshConfig]) -> str:
        return f"Include {shlex.join(glob.escape(self.copy(file)) for file in files)}\n"


#: A line of the file, and the files that it includes.
_Line = tuple[str, tuple[SshConfig, ...]]


@frozen
class _Block:
    """The lines from one ``Host`` or ``Match`` to the next.

    ``names`` are the only hosts that they are for; None: that depends on patterns or conditions.
    """

    names: frozenset[str] | None
    lines: tuple[_Line, ...]


def _blocks(chain: tuple[Path, ...]) -> tuple[_Block, ...]:
    blocks: list[tuple[frozenset[str] | None, list[_Line]]] = [(None, [])]
    with chain[-1].open() as file:
        for line in file:
            keyword, words = _split(line)
            if re.match("(host|match)(=|$)", keyword):
                blocks.append((_names(keyword, words), []))
            included = _included(words) if keyword == "include" else []
            if set(included) & set(chain):
                included = []  # a circle: leave the report to asyncssh
            blocks[-1][1].append((line, tuple(SshConfig(path, chain) for path in included)))
    return tuple(_Block(names, tuple(lines)) for names, lines in blocks)


def _split(line: str) -> tuple[str, list[str]]:
    """Return the first word, in lower case, and the others."""
    words = [] if line.lstrip().startswith("#") else shlex.split(line)
    return (words[0].lower(), words[1:]) if words else ("", [])


def _names(keyword: str, words: list[str]) -> frozenset[str] | None:
    named = keyword == "host" and words and all(map(_NAME.fullmatch, words))
    return frozenset(words) if named else None


def _included(patterns: list[str]) -> list[Path]:
    """Return the files that asyncssh would read for an ``Include``; none if that is not certain."""
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith("="):
            return []
        path = Path(pattern).expanduser()
        root = Path(path.anchor) if path.anchor else Path("~/.ssh").expanduser()
        found += filter(Path.is_file, root.glob(str(path.relative_to(path.anchor))))
    return found
