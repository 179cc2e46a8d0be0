"""Fetch outputs and logs of a run straight into a folder of the user, past the run's own folder.

What is in the run's folder already, and newer, is copied from there: it is what there is of hosts that
do not answer. ``DEST/.launcher`` holds the files of each host, which ``DEST/outputs`` links: the next
fetch continues there.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ...fleet.fanout import Visited, visit
from ...records import events as ev
from ...records.receipt import Because, NotBrought
from ...records.record_files import read_as, write_record
from ...spec.errors import HostError, RecordError
from ...spec.frozen import frozen
from ...spec.model import Layout, Request
from ...transport import rsync
from ..concurrency import in_thread
from ..listeners import OnEvent, ignore_event
from . import outputs
from .choice import Choice
from .destination import held, make
from .mirrors import files_of, state_of
from .outputs import Listed
from .view import Links, Outputs, lay_together

T = TypeVar("T")


@frozen
class Destination:
    """The folder of a user, laid out as that of a run."""

    dest: Path

    @property
    def path(self) -> Path:
        """Where the files of each host are, and the notes about them."""
        return self.dest / ".launcher"

    @property
    def outputs(self) -> Path:
        """The outputs of all hosts together."""
        return self.dest / "outputs"

    def mirror(self, host: str) -> Path:
        """Return the folder with the outputs of one host; it is made if missing."""
        place = self.path / ".hosts" / host / "outputs"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def read_as(self, kind: type[T], name: str) -> T | None:
        """Return a JSON file as a ``kind``; None when it is missing or damaged."""
        return read_as(kind, self.path / name)

    def write(self, name: str, value: object) -> None:
        """Write a JSON file. Raises RecordError."""
        write_record(self.path / name, value)


@frozen
class Fetched:
    """What is in the folder now, what could not be fetched by host, and what else the hosts have."""

    outputs: Outputs
    failed: dict[str, str]
    not_brought: tuple[NotBrought, ...]


async def fetch(
    request: Request,
    layout: Layout,
    run: Path,
    dest: Path,
    choice: Choice,
    on_event: OnEvent = ignore_event,
) -> Fetched:
    """Bring what is chosen into ``dest``. Raises InputError where that can be no folder, or is another
    process's; RecordError if it cannot be written."""
    with held(dest, run):
        return await _fetch(request, layout, run, Destination(dest), choice, on_event)


async def _fetch(
    request: Request,
    layout: Layout,
    run: Path,
    there: Destination,
    choice: Choice,
    on_event: OnEvent,
) -> Fetched:
    hosts = tuple(node.host.name for node in layout.nodes)
    try:
        former = await in_thread(_begin, run, there, choice)
    except OSError as error:
        raise RecordError(there.dest, error) from None
    failed: dict[str, str] = {}
    links: dict[str, Links] = {}

    async def one(visited: Visited) -> tuple[NotBrought, ...]:
        try:
            return await bring(visited)
        except RecordError as error:  # no room: what has come of others is theirs to see
            failed[visited.host] = error.message
            return ()

    async def bring(visited: Visited) -> tuple[NotBrought, ...]:
        mirror = there.mirror(visited.host)

        def told(size: int, percent: int) -> None:
            on_event(ev.OutputsProgressed(time.time(), visited.host, percent, size))

        async def look() -> Listed:
            agent = await visited.agent()
            try:
                return await outputs.listed(agent, layout.run_id, choice, compare=True)
            finally:
                await agent.close()

        what = await look()
        pulled = await outputs.pull(visited.connection, visited.host, what, mirror, told)
        await _logs(visited, there.dest)
        files, size = await in_thread(outputs.not_here, what, mirror, True)
        if files:
            with suppress(HostError):
                what = await in_thread(outputs.still_there, what, await look())
            files, size = await in_thread(outputs.not_here, what, mirror, True)
        links[visited.host] = [link for link in what.links if choice.has(link[0])]
        if pulled.missing:
            failed[visited.host] = pulled.missing
        missing = [NotBrought(visited.host, "", files, size, Because.MISSING)] if files else []
        if files and not pulled.missing and (count := outputs.absent(what, mirror)):
            failed[visited.host] = f"it did not send {count} of the files that it lists"
        outside = [
            NotBrought(visited.host, w.path, w.files, w.bytes, Because.OUTSIDE)
            for w in what.written
        ]
        return (*missing, *outside)

    found = await visit(request, layout, one)
    failed |= {host: error.message for host, error in found.items() if isinstance(error, HostError)}
    everything = hosts + tuple(host for host in former if host not in hosts)
    laid = await in_thread(lay_together, there, everything, links=links)
    lists = [left for left in found.values() if not isinstance(left, HostError)]
    return Fetched(laid, failed, tuple(one for left in lists for one in left))


async def _logs(visited: Visited, dest: Path) -> None:
    arguments = ["--times", "--recursive", f"x:{visited.folder}/logs/", f"{dest}/logs/"]
    await rsync.copy(visited.connection, visited.host, arguments, b"./")


def _begin(run: Path, there: Destination, choice: Choice) -> tuple[str, ...]:
    """Copy what is here of a run; return all hosts that it is from."""
    for name in ("logs", "outputs", ".launcher"):
        make(there.dest / name, there.dest)
    (there.path / ".gitignore").write_text("*\n")  # nor is it code of a later run
    if (run / "logs").exists():
        shutil.copytree(run / "logs", there.dest / "logs", dirs_exist_ok=True)
    here = run / ".hosts"
    known = sorted(place.name for place in here.iterdir()) if here.is_dir() else []
    for host in known:
        mirror = here / host / "outputs"
        target = there.mirror(host)
        for path in files_of(mirror):
            if choice.has(path) and state_of(target / path) != state_of(mirror / path):
                _copy(mirror, target, path)
    return tuple(known)


def _copy(mirror: Path, target: Path, path: str) -> None:
    """Copy a file from one mirror of a host into another, unless what is there in its place is newer."""
    place = target / path
    ours = (mirror / path).stat().st_mtime_ns
    for above in [target / parent for parent in Path(path).parents][-2::-1]:
        if os.path.lexists(above) and not above.is_dir():
            place = above  # a file, where this one needs a folder
            break
    if place.is_dir() or state_of(place)[1] >= ours:
        return
    place.unlink(missing_ok=True)  # other names of that file keep what they have
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(mirror / path, target / path)
