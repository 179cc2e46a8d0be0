"""Reads a rank's report of its own failure: the file that TORCHELASTIC_ERROR_FILE names."""

from __future__ import annotations

import os

from ..base import lean, plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base.messages import ErrorReport

VARIABLE = "TORCHELASTIC_ERROR_FILE"
#: Largest file that is read, in bytes: JSON cannot be read in part.
LARGEST = 1 << 20
#: Characters to keep of a message (its start) and of a traceback (its end).
MESSAGE, TRACEBACK = 2000, 16000


def prepare(env: Mapping[str, str]) -> str | None:
    """Return the file that a process with this environment may write, or None; make its folder."""
    path = env.get(VARIABLE)
    if path:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError:
            return None  # a full disk
    return path


def read(path: str | None) -> ErrorReport | None:
    """Return the report of a process, or None when there is none that can be read.

    The format is that of torch's ``ErrorHandler.record_exception``. Older ones, and other programs,
    write a text as message and no traceback.
    """
    try:
        value = lean.loads(_content(path).decode("utf-8", "replace")) if path else None
    except (OSError, ValueError, RecursionError):
        return None
    message = value.get("message") if isinstance(value, dict) else None
    traceback = None
    if isinstance(message, dict):
        extra = message.get("extraInfo")
        traceback = extra.get("py_callstack") if isinstance(extra, dict) else None
        message = message.get("message")
    message, traceback = (text if isinstance(text, str) else "" for text in (message, traceback))
    if not message and not traceback:
        return None
    return {"message": message[:MESSAGE], "traceback": traceback[-TRACEBACK:]}


def _content(path: str) -> bytes:
    """Read a regular file of at most ``LARGEST`` bytes, without ever blocking. Raises OSError."""
    fd = plain_files.opened(path)
    try:
        return os.read(fd, LARGEST) if os.fstat(fd).st_size <= LARGEST else b""
    finally:
        os.close(fd)
