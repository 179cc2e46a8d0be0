"""Standard output and error that outlive their reader.

``launcher run 2>&1 | head`` leaves nobody at the other end; a terminal may be closed. A run continues
all the same: what nobody can read is dropped, and the exit code stays that of the run.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

#: The reader has gone: a pipe without one, a terminal that was closed.
_GONE = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO})


class _Unread(io.FileIO):
    """A file that takes everything; ``problem`` is why it could not be written, None while it can."""

    problem: OSError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except BlockingIOError:
            raise
        except OSError as error:
            self.problem = error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def reopen() -> None:
    """Open /dev/null in place of each standard stream that was closed when we started, as by ``>&-``.

    Otherwise a file or a connection of ours would get its number, and what is printed with it. Each
    gets the lowest number that is free, which is its own.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  it stays open
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)  # which keeps it open


def outlive_readers() -> None:
    """Put such streams in the place of ``sys.stdout`` and ``sys.stderr``."""
    for name in ("stdout", "stderr"):
        stream: TextIO = getattr(sys, name)
        with suppress(OSError, ValueError):
            stream.flush()
            raw = _Unread(stream.fileno(), "wb", closefd=False)
            # A name that is not UTF-8 has surrogates, which no stream takes otherwise.
            outliving = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors="backslashreplace" if stream.errors == "strict" else stream.errors,
                line_buffering=name == "stderr" or stream.isatty(),
            )
            setattr(sys, name, outliving)


def is_unread() -> bool:
    """Return whether nobody reads standard output any more."""
    return any(problem.errno in _GONE for problem in _problems("stdout"))


def lost() -> str:
    """Return why a reader who is there did not get everything, such as a full disk; "" otherwise."""
    found = [one for one in _problems("stdout", "stderr") if one.errno not in _GONE]
    return str(found[0].strerror) if found else ""


def _problems(*names: str) -> Iterator[OSError]:
    for name in names:
        with suppress(OSError, ValueError, AttributeError):
            getattr(sys, name).flush()
            raw = getattr(sys, name).buffer.raw
            if isinstance(raw, _Unread) and raw.problem is not None:
                yield raw.problem
