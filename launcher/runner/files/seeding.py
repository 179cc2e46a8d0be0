"""Gives a host the outputs of others, so that its ranks find their checkpoints.

``given.json`` notes what was given: a file that the host does not change is not its own output.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...records.receipt import Because, NotBrought
from ...records.run_folder import RunFolder, read_as
from ...spec.errors import InputError
from ...spec.frozen import frozen
from ...transport import rsync
from ..host_session import HostSession
from ..policy import spares
from ..policy.spares import Files, State
from . import outputs
from .also import asked_for
from .outputs import Listed

NOTE = "given.json"


@frozen
class _Described:
    """The field of ``run.json`` that this module reads."""

    resume_from: str | None = None


#: Runs that continued each other, at most.
LONGEST = 1000


def earlier_mirrors(path: Path, resume_from: str | None) -> dict[str, Path]:
    """Return the mirrors of the run that the run of a folder continues, of the one that that continued,
    and so on: by names that no host has."""
    found: dict[str, Path] = {}
    for _ in range(LONGEST):
        if resume_from is None:
            break
        path = path.with_name(resume_from)
        for mirror in sorted(path.glob(".hosts/*/outputs")):
            found[f"{path.name}/{mirror.parent.name}"] = mirror
        resume_from = (read_as(_Described, path / "run.json") or _Described()).resume_from
    return found


def check_can_continue(path: Path, left: Sequence[NotBrought]) -> None:
    """Raise InputError if the outputs of a run are not here; ``left`` is what its hosts alone have."""
    name = path.name
    if lacking := [one for one in left if one.because is not Because.OUTSIDE]:
        first = lacking[0]
        raise InputError(
            f"{first.path or 'some of the outputs'} of {name} is on {first.host} and not here",
            f"launcher pull {name} DEST --only '*' brings everything: name a file there to the script",
        )
    if any(map(outputs.files_of, earlier_mirrors(path, name).values())):
        return
    outside = ",".join(one.path.rstrip("/") for one in left[:3])
    raise InputError(
        f"{name} has no outputs to continue from",
        f"launcher pull {name} --also {outside} first"
        if outside
        else "a script saves its checkpoints in $LAUNCHER_OUTPUT_DIR, or in a path of --output",
    )


class Handover:
    """Which files each host of one run was given."""

    def __init__(self, folder: RunFolder, resume_from: str | None = None) -> None:
        self._folder, self._resume_from = folder, resume_from
        known = folder.read_as(dict[str, dict[str, State]], NOTE) or {}
        self.given = known

    def own(self, host: str, what: Listed) -> Listed:
        """Return the files of a host's list that it has written itself."""
        return own(what, self.given.get(host, {}))

    def superseded(self, former: str, current: Sequence[str]) -> set[str]:
        """Return the files of a former host that have newer versions on hosts which were given them."""
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
        """Give a host the newest file of each path, from all ``hosts`` and the run that this one
        continues, that it does not have; return how many.

        ``folder`` is the run's folder there. Files that match ``paths``, the job's ``outputs``, also
        go to the code's folder. Raises HostError.
        """
        places = {host: self._folder.mirror(host) for host in hosts}
        if self._resume_from is not None:
            places |= earlier_mirrors(self._folder.path, self._resume_from)
            paths = (*paths, *asked_for(self._folder.path.with_name(self._resume_from)))
        mirrors = {host: _states(place) for host, place in places.items()}
        chosen = {path: host for path, host in spares.newest(mirrors).items() if path not in has}
        for host in dict.fromkeys(chosen.values()):
            mine = [path for path in chosen if chosen[path] == host]
            self._note(session.name, {path: mirrors[host][path] for path in mine})
            mirror = places[host]
            await _push(session, mirror, mine, f"{folder}/outputs/")
            in_code = [path for path in mine if spares.named(path, paths)]
            if in_code:  # copied from outputs/ there, so that they do not travel twice
                await _push(
                    session, mirror, in_code, f"{folder}/code/", f"--copy-dest={folder}/outputs"
                )
        return len(chosen)

    def _note(self, host: str, files: dict[str, State]) -> None:
        self.given.setdefault(host, {}).update(files)
        self._folder.write(NOTE, self.given)


def own(what: Listed, given: Files) -> Listed:
    """Return a host's list without the files that it was given and left alone."""
    if not given:
        return what

    def is_own(path: str, size: int, time: int) -> bool:
        return given.get(path) != (size, time)

    return replace(what, outputs=what.outputs.only(is_own), code=what.code.only(is_own))


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
