"""Lists what a launcher may bring of a run from this host: outputs, logs, what it wrote elsewhere."""

from __future__ import annotations

import os

from ..base import received
from ..host import run_folders
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..base.messages import Message
    from .elsewhere import Elsewhere

#: Folders that are named at most where they cannot be read.
UNREADABLE = 20


class Listing:
    """The files of one run. Some outputs are in its folder, and others where the job names them."""

    def __init__(self, root: str, run_dir: str, going_on: Callable[[], None]) -> None:
        self._root, self._run_dir, self._going_on = root, run_dir, going_on
        self._noted = tree.Noted()

    def of(self, request: Message) -> list[Message]:
        """Return the answer to a request for outputs, in parts that fit into messages.

        With ``written``, the copy of the code is compared with what it was: files that the run wrote
        there are listed if they match ``also``, or are among the smallest with ``auto`` bytes together;
        the others are summarised. ``elsewhere`` are patterns outside of the run's folder. What other
        hosts have shared is listed with ``received`` alone.
        """
        shared = bool(request.get("received"))
        named = self._below("code", request["paths"], shared) if request["paths"] else []
        sizes = {name: os.path.getsize(path) for name, path in run_folders.logs_of(self._run_dir)}
        listed = self._below("outputs", None, shared)
        rest: list[tuple[str, int, int]] = []
        if "written" in request:
            more, rest = self._written(request["paths"], **request["written"])
            named = sorted({*named, *more})
        others = self._elsewhere(request.get("elsewhere") or [])
        noted = self._noted
        kinds: dict[str, list[Any]] = {"outputs": listed, "code": named}
        if others.files:
            kinds["elsewhere"] = [others.files[path] for path in sorted(others.files)]
        kinds["same"] = noted.same
        kinds["sparse"] = [[name] for name in sorted(noted.sparse)]
        parts, unlisted = tree.in_parts(dict(kinds, links=sorted(noted.links.items())))
        last = dict(
            parts[-1],
            folder=self._run_dir,
            places=sorted(others.places.items()),
            logs=sizes,
            unreadable=[
                [name or "the folder itself", why]
                for name, why in sorted(noted.unreadable.items())[:UNREADABLE]
            ],
            left_out=[[name, why] for name, why in sorted(noted.left_out.items())[:UNREADABLE]],
            unlisted=unlisted,
            written=[{"path": path, "files": files, "bytes": size} for path, files, size in rest],
        )
        return [*parts[:-1], last]

    def _below(self, folder: str, paths: list[str] | None, shared: bool) -> list[tree.Listed]:
        """Return the files in a folder of the run; without what other hosts have ``shared``, if not
        asked for."""
        place = os.path.join(self._run_dir, folder)
        found = tree.listing(place, paths, self._going_on, self._noted)
        return found if shared else _own(found, received.files(self._run_dir, folder))

    def _elsewhere(self, patterns: list[str]) -> Elsewhere:
        """Return what the run has written outside of its folder, of what the job names there."""
        from . import elsewhere  # few jobs name anything

        began = elsewhere.began(self._run_dir)
        found = elsewhere.Elsewhere(began, self._root, self._going_on, self._noted)
        for pattern in patterns:
            found.look(pattern)
        return found

    def _written(
        self, paths: list[str], also: list[str], auto: int
    ) -> tuple[list[tree.Listed], list[tuple[str, int, int]]]:
        """Return what the run has written outside of its outputs: files to list, and a summary of the
        others."""
        from . import written  # at the end of a run

        files, noted, known = written.listing(self._run_dir, self._going_on)
        others = tree.matching(files, paths, False)
        more = tree.matching(others, also, True)
        others = tree.matching(others, also, False)
        more += written.smallest(others, auto) if auto else []
        listed = set(more)
        self._noted.sparse.update(name for name, _, _ in more if name in noted.sparse)
        left = [one for one in others if one not in listed]
        return more, written.summary(left, noted.unreadable, known)


def _own(listed: list[tree.Listed], others: Mapping[str, tuple[int, int]]) -> list[tree.Listed]:
    """Return the files of a list that are not as ``others`` have written them."""
    return [one for one in listed if others.get(one[0]) != one[1:]] if others else listed
