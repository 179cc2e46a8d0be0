"""A copy of a job's code on this machine, for runs that start later: they execute the code as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from ...spec.errors import LauncherError
from ...spec.model import Job
from . import code_size, code_snapshot, local_paths
from .code_here import CodeHere
from .code_snapshot import Source
from .revision import Revision, revision_of

#: How often the code may change while it is being copied.
TRIES = 3
_FILES, _NOTE, _DIFF = "files", "revision.json", "code.diff"


def keep(job: Job, place: Path) -> None:
    """Copy the code in the job's workdir to the new folder ``place``. Blocks.

    Raises InputError for code that cannot be read, LauncherError for a copy that cannot be made.
    """
    source = code_snapshot.of_job(job)
    for _ in range(TRIES):
        _copy(source, place / _FILES)
        if code_snapshot.read_copy(place / _FILES, source.folder).version == source.version:
            _note(source, place)
            return
        source = code_snapshot.of_job(job)
    raise LauncherError(
        f"{source.folder} keeps changing while it is copied",
        f"its newest file is {code_snapshot.newest(source)}: if it is a log, list it in .launcherignore",
    )


def _copy(source: Source, target: Path) -> None:
    words = ["--links", "--times", "--perms", "--from0", "--files-from=-"]
    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        done = subprocess.run(
            ["rsync", *words, f"{source.folder}/", f"{target}/"],
            input=b"\0".join(source.paths),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise LauncherError(f"cannot copy {source.folder} to {target}: {error}") from None
    if done.returncode not in (0, 23, 24):  # partial: a file is gone or may not be read any more
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LauncherError(f"cannot copy {source.folder} to {target}: {' '.join(said[:1])}")


def _note(source: Source, place: Path) -> None:
    revision = revision_of(source.folder)
    values = {
        "commit": revision.commit,
        "branch": revision.branch,
        "dirty": revision.dirty,
        "untracked": revision.untracked,
        "changed": revision.changed,
        "unreadable": [os.fsdecode(path) for path in source.unreadable],
    }
    try:
        (place / _NOTE).write_text(json.dumps(values))
        (place / _DIFF).write_bytes(revision.diff)
    except OSError as error:
        raise LauncherError(f"cannot write {error.filename}: {error.strerror}") from None


def read(job: Job, folder: str) -> CodeHere:
    """Return the code in a copy of the job's workdir that `keep` made. Blocks. Raises LauncherError."""
    place = Path(folder)
    try:
        noted = json.loads((place / _NOTE).read_text())
        diff = (place / _DIFF).read_bytes()
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot read the copy of the code in {place}: {error}") from None
    source = replace(
        code_snapshot.read_copy(place / _FILES, Path(job.workdir)),
        unreadable=tuple(os.fsencode(path) for path in noted["unreadable"]),
    )
    revision = Revision(
        commit=noted["commit"],
        branch=noted["branch"],
        dirty=noted["dirty"],
        untracked=tuple(noted["untracked"]),
        diff=diff,
        changed=tuple(noted["changed"]),
    )
    large = code_size.of_source(source, job)
    return CodeHere(source, revision, large, local_paths.missed(job, source.paths))
