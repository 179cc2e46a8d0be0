"""Gives a host the outputs that others have written, so that its ranks find their checkpoints.

What was given is noted in ``given.json``: as long as a host does not write to it, it is no output
of that host.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...records.run_folder import RunFolder
from ...transport import rsync
from ..host_session import HostSession
from ..policy import spares
from ..policy.spares import Files, State
from . import outputs
from .outputs import Listed

NOTE = "given.json"


class Handover:
    """Which files each host of one run was given."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        known = folder.read_as(dict[str, dict[str, State]], NOTE) or {}
        self.given = known

    def own(self, host: str, what: Listed) -> Listed:
        """What of a host's list it has written itself."""
        given = self.given.get(host, {})
        outputs, code = spares.own(what.outputs, given), spares.own(what.code, given)
        return replace(what, outputs=outputs, code=code)

    def superseded(self, former: str, current: Sequence[str]) -> set[str]:
        """Files of a host that has left the run, which stand newer where they were given to."""
        mine = outputs.files_of(self._folder.mirror(former))
        theirs = {host: outputs.files_of(self._folder.mirror(host)) for host in current}
        return spares.superseded(mine, theirs, self.given)

    async def give(
        self,
        session: HostSession,
        hosts: Sequence[str],
        folder: str,
        paths: Sequence[str],
        has: Files,
    ) -> int:
        """The newest file of each path from all ``hosts``, where the host has none; how many.

        ``folder`` is the run's own one there, ``paths`` what the job names besides the outputs'
        folder: what they mean goes to the code's folder as well. Raises HostError.
        """
        mirrors = {host: _states(self._folder.mirror(host)) for host in hosts}
        chosen = {path: host for path, host in spares.newest(mirrors).items() if path not in has}
        for host in dict.fromkeys(chosen.values()):
            mine = [path for path in chosen if chosen[path] == host]
            self._note(session.name, {path: mirrors[host][path] for path in mine})
            mirror = self._folder.mirror(host)
            await _push(session, mirror, mine, f"{folder}/outputs/")
            in_code = [path for path in mine if spares.named(path, paths)]
            if in_code:  # they need not travel twice
                await _push(session, mirror, in_code, f"{folder}/code/", "--copy-dest=../outputs")
        return len(chosen)

    def _note(self, host: str, files: dict[str, State]) -> None:
        self.given.setdefault(host, {}).update(files)
        self._folder.write(NOTE, self.given)


async def _push(
    session: HostSession, mirror: Path, paths: list[str], target: str, *options: str
) -> None:
    names = b"\0".join(map(os.fsencode, paths))
    arguments = ["--times", "--ignore-existing", *options, f"{mirror}/", f"x:{target}"]
    await rsync.copy(session.connection, session.name, arguments, names)


def _states(mirror: Path) -> dict[str, State]:
    found = {}
    for path in outputs.files_of(mirror):
        status = (mirror / path).stat()
        found[path] = (status.st_size, status.st_mtime_ns)
    return found
