"""Gives a host the outputs of others, so that its ranks find their checkpoints.

``given.json`` notes what was given: a file that the host does not change is not its own output. The host
has such a note too, for when nobody is in touch.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ...records.receipt import Because, NotBrought
from ...records.record_files import read_as
from ...records.run_folder import RunFolder
from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...spec.model import AUTO, Request
from ...transport import rsync
from ..concurrency import in_thread
from ..host_session import HostSession
from ..policy import spares
from ..policy.spares import Files, State
from . import local_paths
from .also import asked_for
from .checkpoint_folder import FOLDER, newest
from .mirrors import files_of, state_of
from .outputs import Listed

NOTE = "given.json"
#: Of a host, in the run's folder there. Also in agent/base/received.py.
HOST_NOTE = "given.list"
#: What the workdir is called among hosts: no host has such a name.
_HERE = "/here"


@frozen
class _Job:
    """Fields of a job that name outputs in its workdir."""

    outputs: tuple[str, ...] = ()
    share: tuple[str, ...] = ()


@frozen
class _Described:
    """The fields of ``run.json`` that this module reads."""

    resume_from: str | None = None
    job: _Job = _Job()


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
        resume_from = _described(path).resume_from
    return found


def _described(path: Path) -> _Described:
    return read_as(_Described, path / "run.json") or _Described()


def check_can_continue(path: Path, left: Sequence[NotBrought], paths: Sequence[str] = ()) -> None:
    """Raise InputError if the outputs of a run are not here, or none of them matches ``paths``, if there
    are any; ``left`` is what its hosts alone have."""
    name = path.name
    left = [one for one in left if not paths or not one.path or spares.named(one.path, paths)]
    if lacking := [one for one in left if one.because is not Because.OUTSIDE]:
        first = lacking[0]
        raise InputError(
            f"{first.path or 'some of the outputs'} of {name} is on {first.host} and not here",
            f"launcher pull {name} DEST --only '*' brings everything: name a file there to the script",
        )
    found = [one for place in earlier_mirrors(path, name).values() for one in files_of(place)]
    if any(spares.named(one, paths or ".") for one in found):
        return
    if found:
        raise InputError(
            f"{name} has no output {paths[0]}",
            suggestion(paths[0], found) or f"launcher show {name}",
        )
    outside = ",".join(one.path.rstrip("/") for one in left[:3])
    raise InputError(
        f"{name} has no outputs to continue from",
        f"launcher pull {name} --also {outside} first"
        if outside
        else "a script saves its checkpoints in $LAUNCHER_OUTPUT_DIR, or in a path of --output",
    )


class Handover:
    """Which files each host of one run was given."""

    def __init__(self, folder: RunFolder, request: Request) -> None:
        self._folder, self._job = folder, request.job
        self._resume_from, self._resume_paths = request.resume_from, request.resume_paths
        known = folder.read_as(dict[str, dict[str, State]], NOTE) or {}
        self.given = known

    def own(self, host: str, what: Listed) -> Listed:
        """Return the files of a host's list that it has written itself."""
        return own(what, self.given.get(host, {}))

    def superseded(self, former: str, current: Sequence[str]) -> set[str]:
        """Return the files of a former host that have newer versions on hosts which were given them."""
        mine = files_of(self._folder.mirror(former))
        theirs = {host: files_of(self._folder.mirror(host)) for host in current}
        return spares.superseded(mine, theirs, self.given)

    async def give(
        self,
        session: HostSession,
        hosts: Sequence[str],
        folder: str,
        paths: Sequence[str],
        has: Files,
        living: Collection[str] = (),
    ) -> int:
        """Give a host the newest file of each path, from all ``hosts``, the run that this one
        continues, and outputs here that the command names, that it does not have; return how many.

        ``folder`` is the run's folder there. Files that match ``paths``, the job's ``outputs``, also
        go to the code's folder. Where nobody is in touch, the host does not store what ``living`` hosts
        can store themselves. Raises HostError.
        """
        places = {host: self._folder.mirror(host) for host in hosts}
        mirrors = {host: _states(place) for host, place in places.items()}
        _prefer_checkpoint(self._folder.path, places, mirrors)
        if self._resume_from is not None:
            earlier = self._folder.path.with_name(self._resume_from)
            paths = (*paths, *_described(earlier).job.outputs, *_described(earlier).job.share)
            paths = (*(path for path in paths if path != AUTO), *asked_for(earlier))
            more = earlier_mirrors(self._folder.path, self._resume_from)
            there = {host: self._wanted(_states(place)) for host, place in more.items()}
            for run in dict.fromkeys(place.parent.parent.parent for place in more.values()):
                _prefer_checkpoint(run, more, there)
            places |= more
            mirrors |= there
        if named := local_paths.into_outputs(self._job):
            places[_HERE] = Path(self._job.workdir)
            mirrors[_HERE] = _states_below(places[_HERE], named)
        chosen = {path: host for path, host in spares.newest(mirrors).items() if path not in has}
        for host in dict.fromkeys(chosen.values()):
            mine = [path for path in chosen if chosen[path] == host]
            files = {path: mirrors[host][path] for path in mine}
            self._note(session.name, files)
            source = host.removeprefix(f"{self._folder.path.name}/{FOLDER}/")
            if source not in hosts or source in living:
                await self._note_there(session, files, folder)
            mirror = places[host]
            await _push(session, mirror, mine, f"{folder}/outputs/")
            in_code = [path for path in mine if spares.named(path, paths)]
            if in_code:  # copied from outputs/ there, so that they do not travel twice
                await _push(
                    session, mirror, in_code, f"{folder}/code/", f"--copy-dest={folder}/outputs"
                )
        return len(chosen)

    async def _note_there(self, session: HostSession, files: Files, folder: str) -> None:
        place = self._folder.mirror(session.name).parent
        entries = [b"%d %d %s\0" % (*files[path], os.fsencode(path)) for path in files]
        await in_thread(_append, place / HOST_NOTE, b"".join(entries))
        arguments = ["--times", f"{place}/", f"x:{folder}/"]
        await rsync.copy(session.connection, session.name, arguments, HOST_NOTE.encode())

    def _wanted(self, files: dict[str, State]) -> dict[str, State]:
        """Return the outputs of the earlier run that are asked for."""
        if not self._resume_paths:
            return files
        return {p: files[p] for p in files if spares.named(p, self._resume_paths)}

    def _note(self, host: str, files: dict[str, State]) -> None:
        self.given.setdefault(host, {}).update(files)
        self._folder.write(NOTE, self.given)


def _prefer_checkpoint(
    run: Path, places: dict[str, Path], mirrors: dict[str, dict[str, State]]
) -> None:
    """Have the newest checkpoint that was kept of a run take the place of what came of its path, which
    may be half-written."""
    found = newest(run)
    if found is None:
        return
    place, kept = found
    for name in [name for name, mirror in places.items() if mirror.is_relative_to(run)]:
        mirrors[name] = {
            path: state
            for path, state in mirrors[name].items()
            if not spares.named(path, [kept.path])
        }
    for host in dict.fromkeys(one.host for one in kept.files):
        name = f"{run.name}/{FOLDER}/{host}"
        places[name], mirrors[name] = place / host, _states(place / host)


def own(what: Listed, given: Files) -> Listed:
    """Return a host's list without the files that it was given and left alone."""
    if not given:
        return what

    def is_own(path: str, size: int, time: int) -> bool:
        return given.get(path) != (size, time)

    return replace(what, outputs=what.outputs.only(is_own), code=what.code.only(is_own))


def _append(path: Path, entries: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as note:
        note.write(entries)


async def _push(
    session: HostSession, mirror: Path, paths: list[str], target: str, *options: str
) -> None:
    names = b"\0".join(map(os.fsencode, paths))
    arguments = ["--times", "--ignore-existing", *options, f"{mirror}/", f"x:{target}"]
    await rsync.copy(session.connection, session.name, arguments, names)


def _states(mirror: Path) -> dict[str, State]:
    return {path: state_of(mirror / path) for path in files_of(mirror)}


def _states_below(folder: Path, paths: Sequence[str]) -> dict[str, State]:
    """Return the files of a folder that these paths name, which may be folders."""
    found = [path for path in paths if (folder / path).is_file()]
    found += [f"{path}/{name}" for path in paths for name in files_of(folder / path)]
    return {path: state_of(folder / path) for path in found}
