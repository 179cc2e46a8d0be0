"""Reads what a rank wrote about its own failure: the file that TORCHELASTIC_ERROR_FILE names."""

from __future__ import annotations

import os
import stat

from ..base import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..base.messages import ErrorReport

VARIABLE = "TORCHELASTIC_ERROR_FILE"
#: A file larger than this is not read at all: JSON cannot be read in part.
LARGEST = 1 << 20
#: Characters that are kept: the beginning of a message, the end of a traceback.
MESSAGE, TRACEBACK = 2000, 16000


def prepare(env: Mapping[str, str]) -> str | None:
    """The file that a process with this environment may write, or None; its folder exists then."""
    path = env.get(VARIABLE)
    if path:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError:
            return None  # a full disk: then there is no such file
    return path


def read(path: str | None) -> ErrorReport | None:
    """``{"message": ..., "traceback": ...}``, or None where there is nothing that can be read.

    Source of the format: ``ErrorHandler.record_exception`` of torch; an older one, and what other
    programs write, has a text as message and no traceback.
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
    """Raises OSError; never waits, whatever stands there."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            return b""
        return os.read(fd, LARGEST)
    finally:
        os.close(fd)
