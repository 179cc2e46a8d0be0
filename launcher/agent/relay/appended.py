"""Finds files of a run that programs only append to, such as TensorBoard's: they travel as logs do.

Looking for them is bounded: a run may write millions of other files beside them.
"""

from __future__ import annotations

import os
import time

from ..base import protocol, received
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..base.messages import Message

#: Seconds between two looks for new files, or so many times what the last look took.
EVERY, PART = 2.0, 50.0
#: Entries of folders that one look takes.
ENTRIES = 20_000


class Appended:
    """The files found so far, by the name under which they are sent.

    ``paths`` are what the job names as outputs in its code's folder, and files that match ``kept`` are
    not sent. What other hosts have shared with this one, they send themselves.
    """

    def __init__(self, run_dir: str, paths: list[str], kept: list[str]) -> None:
        self.files: dict[str, str] = {}
        self._run_dir, self._kept = run_dir, kept
        self._code = [os.path.normpath(path) for path in paths if not set("*?[") & set(path)]
        self._next, self._is_whole, self._left = 0.0, False, 0

    @classmethod
    def of(cls, run_dir: str, wanted: Message) -> Appended:
        """Return those that a launcher wants."""
        return cls(run_dir, list(wanted.get("paths", [])), list(wanted.get("kept", [])))

    def look(self, last: bool) -> None:
        """Look for new files, if it is time to; once more when nothing is written any more."""
        began = time.monotonic()
        if self._is_whole or (began < self._next and not last):
            return
        self._is_whole = last
        self._left = ENTRIES
        self._take("outputs", "", received.files(self._run_dir, "outputs"))
        if self._code:
            others = received.files(self._run_dir, "code")
            for path in self._code:
                self._take("code", "" if path == "." else path, others)
        now = time.monotonic()
        self._next = now + max(EVERY, PART * (now - began))

    def _take(self, kind: str, start: str, others: Mapping[str, object]) -> None:
        for name, path in self._walk(os.path.join(self._run_dir, kind), start):
            sent = protocol.LIVE + name
            if sent in self.files or len(self.files) >= protocol.LIVE_FILES:
                continue
            if not protocol.is_live(name) or not name.isprintable() or name in others:
                continue
            if not tree.matching([(name, 0, 0)], self._kept, True):
                self.files[sent] = path

    def _walk(self, root: str, start: str) -> Iterator[tuple[str, str]]:
        """Yield the regular files below ``start``, in ``root``: path there, and whole path."""
        queue = [start]
        while queue and self._left > 0:
            folder = queue.pop()
            place = os.path.join(root, folder) if folder else root
            try:
                if os.path.islink(place):
                    continue
                with os.scandir(place) as entries:
                    for entry in entries:
                        self._left -= 1
                        name = os.path.join(folder, entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            queue.append(name)
                        elif entry.is_file(follow_symlinks=False):
                            yield name, entry.path
                        if self._left <= 0:
                            return
            except OSError:
                continue
