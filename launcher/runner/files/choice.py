"""Which of the files that a run writes are brought back. Pure."""

from __future__ import annotations

from ...spec.frozen import frozen
from ...spec.model import Job, is_elsewhere
from ..policy.spares import named


@frozen
class Choice:
    """Patterns of files. All of LAUNCHER_OUTPUT_DIR counts, and what ``paths`` name in the code's
    folder, ``elsewhere`` outside of it; of other files written in the code's folder those that ``also``
    names, and with ``auto`` the smallest.

    Of these, ``bring`` are the only ones to bring, if it names any, and ``keep`` stay on the hosts.
    """

    paths: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    auto: bool = False
    bring: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: Job, also: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Choice:
        """Return what a job brings; with ``only``, these files alone, wherever the job leaves them."""
        paths, elsewhere = job.output_paths, job.outputs_elsewhere
        if only:
            return cls(paths, elsewhere, only, False, only)
        elsewhere += tuple(filter(is_elsewhere, also))
        also = tuple(path for path in also if not is_elsewhere(path))
        return cls(paths, elsewhere, also, job.brings_written, job.bring, job.keep_on_host)

    @classmethod
    def stored(cls, job: Job) -> Choice:
        """Return what a store gets of a job: all outputs, whatever is brought here."""
        return cls(job.output_paths, job.outputs_elsewhere, (), job.brings_written)

    @property
    def compares(self) -> bool:
        """Whether hosts have to look for what was written outside of the outputs."""
        return bool(self.also or self.auto)

    @property
    def has_all(self) -> bool:
        """Whether all files are brought."""
        return not (self.bring or self.keep)

    def has(self, path: str) -> bool:
        """Return whether a file is brought."""
        if named(path, self.also):
            return True
        return not named(path, self.keep) and (not self.bring or named(path, self.bring))
