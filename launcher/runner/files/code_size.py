"""How large the code of a run is, what in it is large, and what of that may stay here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ...records.record_files import read_as, write_json
from ...spec.frozen import frozen
from ...spec.home import home
from ...spec.model import Job
from . import code_snapshot
from .code_files import IGNORE_FILE
from .code_snapshot import Source

#: Bytes of code above which a person is asked, or told.
LARGE = 200_000_000
#: How large the code of a folder was when its user last agreed to copy it: a file of :func:`home`.
AGREED, MOST_AGREED = "agreed-sizes.json", 1000
#: Entries of the folder that are named.
NAMED = 3


@frozen
class LargeCode:
    """Code of more than :data:`LARGE` bytes. ``largest`` are entries of the folder, those that are
    folders with a slash, with their bytes; ``proposed`` are those of them that may stay here so that
    the rest is not large."""

    folder: str
    bytes: int
    files: int
    largest: tuple[tuple[str, int], ...]
    proposed: tuple[str, ...]


def of_job(job: Job) -> LargeCode | None:
    """Return the code of a job if it is large, and its user has not agreed to copy as much before."""
    source = code_snapshot.of_job(job)
    return of_source(source, job)


def of_source(source: Source, job: Job) -> LargeCode | None:
    """Do the same with code that was read already."""
    folder = str(source.origin or source.folder)
    if source.bytes <= LARGE or source.bytes <= _agreed().get(folder, 0) + LARGE:
        return None
    sizes = _by_entry(source)
    return LargeCode(
        folder,
        source.bytes,
        source.files,
        tuple(sorted(sizes.items(), key=lambda item: -item[1])[:NAMED]),
        proposed(sizes, source.bytes, job.scripts),
    )


def proposed(sizes: Mapping[str, int], total: int, scripts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the largest folders, as few as possible, without which the rest is not large: never one
    with a script of the job. Empty if that is not enough."""
    kept = {script.partition("/")[0] + "/" for script in scripts}
    found = []
    for entry in sorted(sizes, key=lambda entry: -sizes[entry]):
        if total <= LARGE:
            break
        if entry.endswith("/") and entry not in kept:
            found.append(entry)
            total -= sizes[entry]
    return tuple(found) if total <= LARGE else ()


def _by_entry(source: Source) -> dict[str, int]:
    root = os.fsencode(source.folder)
    sizes: dict[str, int] = {}
    for path in source.paths:
        name, slash, _ = path.partition(b"/")
        entry = os.fsdecode(name + slash)
        with suppress(OSError):  # it was removed a moment ago
            sizes[entry] = sizes.get(entry, 0) + os.lstat(os.path.join(root, path)).st_size
    return sizes


def _agreed() -> dict[str, int]:
    return read_as(dict[str, int], home() / AGREED) or {}


def agree(code: LargeCode) -> None:
    """Remember that as much of this folder may be copied: nobody is asked or told again."""
    known = {**_agreed(), code.folder: code.bytes}
    with suppress(OSError):  # then the question comes again
        home().mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(home() / AGREED, dict(list(known.items())[-MOST_AGREED:]))


def leave_out(code: LargeCode) -> None:
    """Add what is proposed to the folder's .launcherignore. Raises OSError."""
    file = Path(code.folder) / IGNORE_FILE
    before = file.read_text("utf-8") if file.exists() else ""
    gap = "" if before.endswith("\n") or not before else "\n"
    file.write_text(before + gap + "".join(f"/{_escaped(one)}\n" for one in code.proposed), "utf-8")


def _escaped(name: str) -> str:
    return "".join("\\" + letter if letter in "*?[\\ " else letter for letter in name)
