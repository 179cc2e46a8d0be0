"""Jobs from the text of a job file."""

from __future__ import annotations

from launcher.jobs import job_file as jobs
from launcher.spec.model import Job


def job_of(text: str) -> Job:
    return jobs.make({"file": jobs.load(text, "job.yaml")}, {})
