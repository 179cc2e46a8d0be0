"""The commit of a folder, and what differs from it."""

from __future__ import annotations

import os
from pathlib import Path

from ...spec.frozen import frozen
from . import git

#: The uncommitted changes, as a patch; filters for display would make it something else.
_DIFF = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--relative")


@frozen
class Revision:
    """The state of the code in git; ``diff`` contains the uncommitted changes, of ``changed`` files."""

    commit: str = ""
    branch: str = ""
    dirty: bool = False
    untracked: tuple[str, ...] = ()
    diff: bytes = b""
    changed: tuple[str, ...] = ()


def revision_of(folder: Path) -> Revision:
    """Return the commit and the uncommitted changes of a folder; empty outside a repository."""
    head = git.output(folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if head is None:
        return Revision()
    commit, _, branch = head.decode().strip().partition("\n")
    diff = git.output(folder, *_DIFF, "--binary", "--no-color")
    changed = (git.output(folder, *_DIFF, "--name-only", "-z") or b"") if diff else b""
    others = git.output(folder, "ls-files", "-z", "--others", "--exclude-standard") or b""
    untracked = tuple(os.fsdecode(line) for line in git.lines(others))
    return Revision(
        commit=commit,
        branch=branch,
        dirty=bool(diff or untracked),
        untracked=untracked,
        diff=diff or b"",
        changed=tuple(os.fsdecode(line) for line in git.lines(changed)),
    )
