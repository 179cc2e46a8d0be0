"""Read the job's code on this machine."""

from __future__ import annotations

from pathlib import Path

from ...spec.frozen import frozen
from ...spec.model import Job
from . import code_size, code_snapshot
from .code_size import LargeCode
from .code_snapshot import Revision, Source


@frozen
class CodeHere:
    """The files to copy, their revision, and how large they are if that is worth a word."""

    source: Source
    revision: Revision
    large: LargeCode | None


def read(job: Job) -> CodeHere:
    """Read the code in the job's workdir. Blocks. Raises InputError."""
    folder = Path(job.workdir)
    source = code_snapshot.read(folder, job.apart)
    code_snapshot.require(source, job.script)
    return CodeHere(source, code_snapshot.revision(folder), code_size.of_source(source, job))
