"""The files ``metrics/HOST.jsonl`` of a run on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..spec.files import open_plain
from .metrics import HostUse, Sample, read, use
from .run_folder import METRICS

#: Bytes of the longest line that is believed.
LINE = 16_384


def files(run: Path) -> dict[str, Path]:
    """Return the files that are there, by host."""
    return {file.stem: file for file in sorted((run / METRICS).glob("*.jsonl"))}


def samples(file: Path, offset: float = 0.0) -> Iterator[Sample]:
    """Yield what a host measured, in order; nothing where the file cannot be read."""
    try:
        with open_plain(file) as lines:
            while line := lines.readline(LINE):
                if sample := read(line, offset):
                    yield sample
    except OSError:
        return


def uses(run: Path) -> dict[str, HostUse]:
    """Return the use of each host of a run that measured anything."""
    found = ((host, use(samples(file))) for host, file in files(run).items())
    return {host: one for host, one in found if one}
