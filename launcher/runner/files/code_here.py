"""Read the job's code on this machine."""

from __future__ import annotations

from pathlib import Path

from ...spec.frozen import frozen
from ...spec.model import Job
from . import code_size, code_snapshot, local_paths
from .code_size import LargeCode
from .code_snapshot import Source
from .local_paths import Missed
from .revision import Revision, revision_of


@frozen
class CodeHere:
    """The files to copy, their revision, how large they are if that is worth a word, and which words of
    the command are not among them."""

    source: Source
    revision: Revision
    large: LargeCode | None
    missed: Missed


def read(job: Job, added: Path) -> CodeHere:
    """Read the code in the job's workdir, with the files in ``added``. Blocks. Raises InputError."""
    source = code_snapshot.of_job(job, added)
    code_snapshot.require(source, job.script)
    return CodeHere(
        source,
        revision_of(Path(job.workdir)),
        code_size.of_source(source, job),
        local_paths.missed(job, source.paths),
    )
