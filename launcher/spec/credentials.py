"""Credentials for object stores: what they are called, and where a file says so. Pure."""

from __future__ import annotations

import re

from .errors import DocumentError, InputError
from .yaml_document import YamlNode, text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
#: Stands for no credential, where a job file or settings name one.
NONE = "none"
#: Stands for asking a public bucket without any, whatever the tools of its store find here.
ANONYMOUS = "anonymous"
#: What is wrong with a credential for a folder or a web server, and what to do.
NO_STORE = "a credential is for an object store (s3://..., gs://..., az://...)"
LEAVE_OUT = "leave out credential:"


class Said(str):
    """The name of a credential in a file, with the file and the line: whoever finds no such credential
    can point there."""

    source: str = ""
    line: int = 0


def name(value: str) -> str:
    """Return the name of a credential, ``none`` or ``anonymous``. Raises ValueError."""
    if not _NAME.match(value):
        raise ValueError(
            f"{value!r} cannot name a credential: use letters, digits, '_', '-' and '.', 64 at most"
        )
    return value


def read_name(node: YamlNode) -> str:
    """Return the name of a credential in a file. Raises DocumentError."""
    try:
        said = Said(name(text(node)))
    except ValueError as error:
        raise node.error(f"{node.name}: {error}" if node.name else str(error)) from None
    said.source, said.line = node.source, node.line
    return said


def problem(said: str, where: str, message: str, hint: str) -> InputError:
    """Return an error about a credential that is named there: with file and line, if it is known."""
    if isinstance(said, Said):
        return DocumentError(message, hint, said.source, said.line)
    return InputError(f"{where}: {message}", hint)
