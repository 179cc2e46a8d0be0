"""What a run runs: its code and its command. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ..spec.frozen import frozen


@frozen
class Code:
    """What ``code.json`` says of the code of a run; no ``commit`` outside a git repository."""

    folder: str = ""
    snapshot: str = ""
    files: int = 0
    bytes: float = 0
    commit: str = ""
    branch: str = ""
    dirty: bool = False
    untracked: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The beginning of the commit, with a ``+`` if not all was committed."""
        return self.commit[:8] + ("+" if self.dirty else "") if self.commit else ""


def one_line(run: Sequence[str], shell: bool) -> str:
    """Return a command or a shell script in a line."""
    return " ".join((" ".join(run) if shell else shlex.join(run)).split())
