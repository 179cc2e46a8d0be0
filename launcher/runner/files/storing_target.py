"""The place in a store that takes the outputs of one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...spec import data
from ...spec.frozen import frozen
from ...spec.model import Job
from ..credentials import find_bucket, require_trust

if TYPE_CHECKING:
    from ...transport.object_store import Bucket


@frozen
class Target:
    """A prefix in a store that takes the outputs of one run."""

    bucket: Bucket
    prefix: str
    to: str

    @classmethod
    def of(cls, job: Job, run: Path) -> Target:
        """Return the target of the run in a folder; without ``{{run}}`` its name comes last. Raises
        StoreError."""
        credential = job.output_credential
        by = f"the credential {credential}" if credential else "your credentials"
        require_trust(run, f"outputs are stored in {job.output_to}, with {by}")
        name, prefix = data.in_store(data.of_run(job.output_to, run.name))
        kind = data.scheme(job.output_to)
        bucket = find_bucket(kind, name, credential)
        return cls(bucket, prefix, f"{kind}://{name}/{prefix}".rstrip("/"))

    def in_step(self) -> Target:
        """Return the target with the store's clock and region, once the store was asked. Blocks. Raises
        StoreError."""
        return replace(self, bucket=self.bucket.in_step(self.prefix, writes=True))

    def key(self, name: str) -> str:
        """Return the key of a file."""
        return self.prefix + name
