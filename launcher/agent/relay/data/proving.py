"""Takes the sums of files of a copy while their blocks arrive, so that little is left at its end.

Those of files that come whole in one block are taken when that is written: see blocks.py.

Blocks come nearly in order, as their source gives them: what follows a sum so far is read as soon as it
is there, which is while it is still in memory.
"""

from __future__ import annotations

import hashlib
import os
import threading

from ...base import manifest
from . import sums as data_sums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Tuple

    from .blocks import Copy, Sums

#: Files whose sums are taken at once, when all blocks are here.
THREADS = 4


class Proving:
    """Reads each file once all of it so far is here."""

    def __init__(self, copy: Copy, place: str) -> None:
        """``place`` is the folder of the copy."""
        self._copy, self._files = copy, os.fsencode(os.path.join(place, "files"))
        self._known, self._loaded = data_sums.noted(place), copy.loaded
        self._left = self._entries()
        self._lock = threading.Lock()
        self._is_over = self._is_last = False
        self._found: Sums = {}
        self._threads = [self._start()]

    def _entries(self) -> Iterator[Tuple[manifest.Entry, int]]:
        before, length = 0, self._copy.cut.length
        for entry in self._copy.cut.entries():
            if entry.target is None and entry.size and entry.path not in self._known:
                block = before // length
                is_in_one = before + entry.size <= (block + 1) * length
                if not is_in_one or self._loaded >> block & 1:
                    yield entry, before
            before += entry.size

    def sums(self, going_on: Callable[[], object]) -> Sums:
        """Return the sums of all files whose blocks are here by now, once they are taken."""
        self._is_last = True
        self._copy.wake()
        self._threads += [self._start() for _ in range(THREADS - 1)]
        for thread in self._threads:
            while thread.is_alive():
                thread.join(1.0)
                going_on()
        return {**self._copy.files, **self._found}

    def end(self) -> None:
        """Read nothing more."""
        self._is_over = True
        self._copy.wake()

    def _is_enough(self) -> bool:
        return self._is_over or self._is_last

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work)
        thread.daemon = True
        thread.start()
        return thread

    def _work(self) -> None:
        while not self._is_over:
            with self._lock:
                entry, before = next(self._left, (None, 0))
            if entry is None:
                return
            try:
                found = self._sums_of(entry, before)
            except OSError:
                continue  # it is looked at again in the end
            if found:
                self._found[entry.path] = found

    def _sums_of(self, entry: manifest.Entry, before: int) -> Tuple[str, str] | None:
        length = self._copy.cut.length
        wants_md5 = bool(data_sums.MD5.match(data_sums.tag_in(entry)))
        sha256, md5 = hashlib.sha256(), data_sums.md5_or_none() if wants_md5 else None
        at, file = 0, -1
        try:
            while at < entry.size:
                number = (before + at) // length
                if not self._copy.wait_for(number, self._is_enough):
                    return None
                if file < 0:
                    path = os.path.join(self._files, entry.path)
                    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                end = min(entry.size, (number + 1) * length - before)
                piece = os.pread(file, min(manifest.PIECE, end - at), at)
                if not piece:
                    return None
                sha256.update(piece)
                if md5:
                    md5.update(piece)
                at += len(piece)
        finally:
            if file >= 0:
                os.close(file)
        return sha256.hexdigest(), md5.hexdigest() if md5 else ""
